"""Where candidates come from: runs, and ready pairs in the forms that people have them in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict

from rapo_lightning.data.ids import prompt_id
from rapo_lightning.errors import UserError
from rapo_lightning.stage3.pairs.candidates import trajectory_candidates
from rapo_lightning.stage3.pairs.ready import ready_candidates
from tests.stage3.pairs.rounds import kept, trajectory


def test_rounds_of_several_runs_compete_and_have_their_own_start() -> None:
    first = trajectory("x", (0.1, 0.1), (0.5, 0.5), texts=["one"])
    second = trajectory("x", (0.3, 0.3), (0.9, 0.9), texts=["two"])
    found = trajectory_candidates({"a": first, "b": second})
    assert [len(candidate.rounds) for candidate in found] == [4] * 4
    assert {candidate.text: round(candidate.gap, 3) for candidate in found} == {"x": 0, "one": 0.4, "two": 0.6}
    assert kept(found, {"filter": "winner"}) == [("x", "two")]


def test_two_video_models_are_refused() -> None:
    rows = {"a": trajectory("x", (0.1, 0.1), video_model="wan"), "b": trajectory("y", (0.1, 0.1), video_model="ltx")}
    with pytest.raises(UserError, match="Got videos of ltx in b and wan in a; leave one of the runs out"):
        trajectory_candidates(rows)
    rows["b"][0]["video_model"] = ""
    with pytest.raises(UserError, match=r"\(not known\) in b and wan in a"):
        trajectory_candidates(rows)


def test_runs_with_other_verifiers_are_refused() -> None:
    rows = {"a": trajectory("x", (0.1, 0.1)), "b": trajectory("y", (0.1, None), (0.2, None))}
    with pytest.raises(UserError, match="scores of the same verifiers.*Got a: a, b; b: a"):
        trajectory_candidates(rows)


def test_a_csv_and_its_incomplete_rows(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,completion,score_a,group\na ball,a red ball,0.5,g\nx,,1,\na ball,a blue ball,,h\n")
    found, incomplete = ready_candidates(str(path))
    assert incomplete == 1
    assert [(item.request, item.text, item.start) for item in found] == [
        ("a ball", "a red ball", None), ("a ball", "a blue ball", None),
    ]  # fmt: skip
    assert {item.prompt_id for item in found} == {prompt_id("a ball", "")}
    assert kept(found, {"filter": "winner"}, {"filter": "margin"}) == [("a ball", "a red ball")]
    assert kept(found, {"filter": "floors", "least": {"a": 0.5}}) == [("a ball", "a red ball")]
    with pytest.raises(UserError, match="`pareto` compares with round 0"):
        kept(found, {"filter": "pareto"})


def test_without_scores_ready_pairs_do_not_compete(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    # A column of one's own may be called as the gap is in a candidate's row.
    path.write_text("prompt,completion,gap\na ball,a red ball,x\na ball,a blue ball,y\nsame,same,z\n")
    found, _ = ready_candidates(str(path))
    assert all(math.isnan(candidate.gap) for candidate in found)
    usual = [{"filter": "winner"}, {"filter": "margin"}, {"filter": "words"}]
    assert len(kept(found, *usual)) == 2
    with pytest.raises(UserError, match="`floors` needs scores of a. Got data with no scores"):
        kept(found, {"filter": "floors", "least": {"a": 0.5}})


TURNS = {
    "prompt": [[{"role": "system", "content": "Rewrite."}, {"role": "user", "content": f"ball {i}"}] for i in range(4)],
    "completion": [[{"role": "assistant", "content": f"a red ball {i}"}] for i in range(4)],
}


def test_parquet_and_datasets_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset.from_dict(TURNS)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": data.select([0, 1, 2]), "validation": data.select([3])}).save_to_disk(tmp_path / "splits")
    (tmp_path / "parts").mkdir()
    data.select([0, 1]).to_parquet(tmp_path / "parts/train.parquet")
    data.select([2, 3]).to_parquet(tmp_path / "parts/validation.parquet")
    expected = [(f"ball {i}", f"a red ball {i}") for i in range(4)]
    for name, split in (("a.parquet", [""] * 4), ("saved", [""] * 4), ("splits", ["train"] * 3 + ["validation"]),
                        ("parts", ["train"] * 2 + ["validation"] * 2)):  # fmt: skip
        found, _ = ready_candidates(str(tmp_path / name))
        assert [(item.request, item.text) for item in found] == expected, name
        assert [item.row["split"] for item in found] == split, name
    asked: list[Any] = []

    def hub(*given: Any) -> dict[str, Dataset]:
        asked.append(given)
        return {"train": data}

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert len(ready_candidates("owner/pairs")[0]) == 4
    assert asked == [("owner/pairs",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "need the columns prompt and completion. Got \\['a', 'b'\\]"),
        ("", "need the columns"),
        ("prompt,completion\nx,\n", "no complete row of 1"),
        ("prompt,completion\n", "no complete row of 0"),
    ],
)
def test_bad_csvs_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        ready_candidates(str(path))


@pytest.mark.parametrize("given", [["a", "b"], {"text": "a"}, [{"role": "user", "content": [{"text": "a"}]}], 3])
def test_what_is_no_text_is_not_trained_on_as_python_writes_it(tmp_path: Path, given: Any) -> None:
    Dataset.from_dict({"prompt": [given], "completion": ["x"]}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(
        UserError, match=r"have texts, or turns.* as a prompt in .*p\.parquet; turn that column into texts"
    ):
        ready_candidates(str(tmp_path / "p.parquet"))


def test_bad_datasets_are_named(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(UserError, match=r"need the columns prompt and completion. Got \['text'\]"):
        ready_candidates(str(tmp_path / "text.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for source in (str(tmp_path / "broken.parquet"), str(tmp_path / "none.csv"), "no-such-folder"):
        with pytest.raises(UserError, match="which cannot be read: "):
            ready_candidates(source)
    splits = {name: Dataset.from_dict(TURNS) for name in ("train", "test")}
    DatasetDict(splits).save_to_disk(tmp_path / "odd")
    with pytest.raises(UserError, match="splits train and validation, or a single one. Got train, test"):
        ready_candidates(str(tmp_path / "odd"))
