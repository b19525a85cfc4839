"""Servers in recipes: what decides a row, what a recipe may not hold, and a whole loop whose rewriter is behind one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from rapo_lightning.cli import main
from rapo_lightning.data.resources import shipped_recipes
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import UserError
from rapo_lightning.models import ModelPool, ServerLanguageModel, ServerVisionLanguageModel
from rapo_lightning.models.base import VisionLanguageModel
from rapo_lightning.models.usage import Call, metered, note
from rapo_lightning.recipe import Recipe, Stage2
from rapo_lightning.recipe.components import CHOICES, build
from rapo_lightning.recipe.files import load_recipe
from rapo_lightning.recipe.identity import component_identity, settings_hash
from rapo_lightning.stage2.rewrite import check_physics
from rapo_lightning.verifiers import Judgement, View
from tests.fake_server import Answer, Body, _quick, chat, error, said, serving  # noqa: F401
from tests.helpers import tiny_recipe

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("_quick")
LANGUAGE = "rapo_lightning.models.ServerLanguageModel"
KEY = "sk-test-0123456789abcdefghij"
PHYSICS_TOKENS = 4
ALLOW = ("--allow_package", "tests")


class Metered:
    """A verifier whose model counts a call that succeeds and one that fails, both for the first video."""

    name = "metered"

    def judge(self, views: list[View], models: object) -> list[Judgement]:
        note([Call(0, 5, 1, 0.25), Call(0, None, None, 1.0, True, "HTTP 500")])
        return [Judgement(0.5) for _ in views]


def server(url: str | list[str], **more: Any) -> dict[str, Any]:
    return {"class_path": LANGUAGE, "init_args": {"url": url, "model": "m", **more}}


def recipe_with(folder: Path, language_model: Path, component: dict[str, Any], **changes: Any) -> Path:
    path = tiny_recipe(folder, language_model)
    fields = yaml.safe_load(path.read_text()) | {"language_model": component} | changes
    path.write_text(yaml.safe_dump(fields))
    return path


def test_moving_a_server_leaves_the_identity_and_another_model_does_not() -> None:
    one = server("http://a/v1")
    moved = server(["http://b/v1", "http://c/v1"], concurrency=3, timeout=9.0, retries=1, key_variable="B_API_KEY")
    assert component_identity(one) == component_identity(moved)
    assert settings_hash(Recipe(language_model=one)) == settings_hash(Recipe(language_model=moved))
    others = [server("http://a/v1", **more) for more in ({"model": "n"}, {"fields": {"top_k": 5}})]
    assert len({json.dumps(component_identity(item)) for item in (one, *others)}) == 3


def test_the_recipe_builds_both_kinds() -> None:
    assert build(server(["http://a/v1"], timeout=5), "language_model").timeout == 5
    with pytest.raises(UserError, match="`language_model.init_args` do not fit"):
        build(server("http://a/v1", frames=3), "language_model")
    (path,) = [item for item in CHOICES[f"{VisionLanguageModel.__module__}.VisionLanguageModel"] if "Server" in item]
    assert path == f"rapo_lightning.models.{ServerVisionLanguageModel.__name__}"


def test_the_vision_model_takes_the_servers_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from rapo_lightning.recipe import components

    # The field itself belongs to the judge's recipe.
    protocols = {**components.PROTOCOLS, "judge": "rapo_lightning.models.base.VisionLanguageModel"}
    monkeypatch.setattr(components, "PROTOCOLS", protocols)
    arguments = {"url": "http://a/v1", "model": "m", "frames": 4, "concurrency": 2, "fields": {"top_k": 1}}
    made = build({"class_path": "rapo_lightning.models.ServerVisionLanguageModel", "init_args": arguments}, "judge")
    assert (made.frames, made.concurrency, made.fields) == (4, 2, {"top_k": 1})
    with pytest.raises(UserError, match="do not fit"):
        build({"class_path": "rapo_lightning.models.ServerVisionLanguageModel",
               "init_args": {**arguments, "concurrenzy": 2}}, "judge")  # fmt: skip


SECRETS = [
    {"api_key": KEY},
    {"key_variable": KEY},
    {"fields": {"extra": [{"Authorization": "Bearer pa55"}]}},
    {"url": "http://me:pa55@a/v1"},
    {"url": ["http://a/v1", "https://pa55@b/v1"]},
]


@pytest.mark.parametrize("given", SECRETS)
def test_a_recipe_holds_no_secret(given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    component = server("http://a/v1") | {"init_args": {"url": "http://a/v1", "model": "m", **given}}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"language_model": component}))
    for arguments in ([str(path), "--print_config"], ["--config", str(path), "--out", str(tmp_path / "run")]):
        assert main(["collect", *arguments]) == 2
        out, err = capsys.readouterr()
        assert "A recipe must hold no key" in err
        assert not out
        assert KEY not in err
        assert "pa55" not in err
    with pytest.raises(UserError, match="`language_model.init_args"):
        load_recipe(path)
    with pytest.raises(UserError, match="`language_model.init_args"):
        Recipe(language_model=component)
    assert not (tmp_path / "run").exists()


def test_shipped_recipes_and_ordinary_words_are_no_secrets() -> None:
    name, arguments = "risk-free-0123456789abcdefgh", {"max_new_tokens": 4, "api_key": "", "tokenizer": "t"}
    assert Recipe(name=name, prompts="a https://b.c/d user@host").name == name
    model = {"class_path": "x", "init_args": arguments}
    assert Recipe(language_model=model).language_model["init_args"] == arguments  # type: ignore[arg-type]
    assert all(load_recipe(path) for path in shipped_recipes().values())


def test_a_server_that_is_not_there_stops_collect_before_anything_is_written(
    tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_with(tmp_path, language_model, server("http://127.0.0.1:9/v1"))
    assert main(["collect", str(recipe), "--out", str(tmp_path / "run"), *ALLOW]) == 2
    assert "A server for m must answer at http://127.0.0.1:9/v1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_loop_whose_rewriter_is_behind_a_server(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    lost: list[str] = []

    def script(body: Body, asked: int) -> Answer:
        if not lost and body["max_tokens"] != PHYSICS_TOKENS:
            lost.append(said(body))
        return error(500) if said(body) in lost else chat(f"A ball, tried {body['seed']}.")

    with serving(script) as server_:
        path = recipe_with(tmp_path, language_model, server(server_.url, retries=1))
        fields = yaml.safe_load(path.read_text())
        fields["stage2"] |= {"verifiers": [{"class_path": f"{__name__}.Metered"}], "rounds": 2, "candidates": 2}
        fields["stage2"]["physics_tokens"] = PHYSICS_TOKENS
        path.write_text(yaml.safe_dump(fields))
        assert main(["collect", str(path), "--out", str(tmp_path / "run"), *ALLOW]) == 0
        asked = len(server_.bodies)
        # Again, and with the server's address moved: nothing is asked anew.
        assert main(["collect", str(path), "--out", str(tmp_path / "run"), *ALLOW]) == 0
        with serving(script) as other:
            option = ["--language_model.init_args.url", other.url]
            assert main(["collect", str(path), "--out", str(tmp_path / "run"), *option, *ALLOW]) == 0
            assert (len(server_.bodies), len(other.bodies)) == (asked, 0)
    rows = read_rows(tmp_path / "run" / "trajectories")
    assert {row["language_model"] for row in rows} == {"m"}
    assert {row["schema_version"] for row in rows} == {5}
    _calls_are_right([row for row in rows if row["round"] == 0], last=False)
    _calls_are_right([row for row in rows if row["round"] == 1], last=True)
    kept = [row for row in rows if row["round"] == 0 and row["next_prompt"] == row["prompt"]]
    assert len(kept) == 1
    assert [call["remark"] for call in kept[0]["calls"] if call["failed"] and call["by"] == "rewrite"] == [
        "HTTP 500: no"
    ] * 4
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "run/trajectories/*.parquet"),
                                   cache_dir=str(tmp_path / "cache"))["train"]  # fmt: skip
    assert loaded.num_rows == len(rows)
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)


def test_a_check_of_some_rows_is_noted_for_those_rows() -> None:
    common = {"prompt_id": "p", "source_prompt": "a ball", "round": 0, "seed": 1, "flow": [], "motion": "none"}
    rows = [{**common, "phys_law": law} for law in ("", "It falls.", "", "It rolls.")]
    with serving(lambda body, asked: chat("It does.")) as server_:
        models = ModelPool(language=ServerLanguageModel(server_.url, "m"))
        with metered() as calls:
            assert check_physics(rows, Stage2(), models) == ["", "It does.", "", "It does."]
    assert [call.item for call in calls] == [1, 3]


def _calls_are_right(rows: list[dict[str, Any]], last: bool) -> None:
    assert rows
    judged = [[call for call in row["calls"] if call["by"] == "metered"] for row in rows]
    # Two a batch of videos, on its first.
    assert {len(calls) for calls in judged} == {0, 2}
    assert next(calls for calls in judged if calls)[1] == {
        "by": "metered", "prompt_tokens": None, "completion_tokens": None, "seconds": 1.0, "failed": True,
        "remark": "HTTP 500",
    }  # fmt: skip
    for row in rows:
        good = [call["by"] for call in row["calls"] if not call["failed"] and call["by"] != "metered"]
        if last:
            assert good == []
        elif row["next_prompt"] != row["prompt"]:
            assert good == (["physics"] if row["phys_law"] else []) + ["rewrite"] * 2
    assert np.isfinite([row["seconds_judge"] for row in rows]).all()
