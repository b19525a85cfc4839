"""Requests written by hand, scored by what their author says they ask for."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.errors import UserError
from rapo_lightning.lab.labels import parse_asked, read_labels
from rapo_lightning.lab.oracle import judge
from rapo_lightning.lab.reading import CaptionReader, read_caption, translated
from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.requests import refusal
from rapo_lightning.lab.verifier import LabOracle
from rapo_lightning.lab.world import BACKGROUNDS, COLOURS, DIRECTIONS, MOTIONS, PHYS_LAWS, SHAPES, SIZES
from rapo_lightning.models import ModelPool
from rapo_lightning.stage3.pairs.filter import plain
from rapo_lightning.verifiers import View
from tests.helpers import ROOT, WordEmbedder

LAB = ROOT / "recipes/lab"
WRITTEN = LAB / "prompts_handwritten.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_reference_is_a_held_out_scene_of_what_is_asked() -> None:
    written = rows(WRITTEN)
    assert len(written) == len({plain(row["prompt"]) for row in written}) == 100
    for row in written:
        scene, wanted = read_caption(row["reference"]), parse_asked(row["asked"])
        assert scene is not None
        assert scene.split == "heldout", row["prompt"]
        assert wanted.items() <= scene.attributes.items(), row["prompt"]
        assert {"shape", "colour", "motion"} <= set(wanted)
        assert row["phys_law"] == PHYS_LAWS[wanted["motion"]]
        assert all(translated(row["prompt"], row["reference"], wanted).values()), row["prompt"]
    # Others than the lab's own users would write: most have words that the lab does not know.
    assert sum(bool(refusal(row["prompt"])) for row in written) > 70


def test_nothing_of_them_is_trained_on() -> None:
    trained = [*rows(LAB / "prompts_train.csv"), *rows(LAB / "examples.csv"), *rows(LAB / "prompts_validation.csv")]
    captions = {row.get("reference") or row["caption"] for row in trained}
    captions |= set((LAB / "captions_train.txt").read_text().splitlines())
    scenes = {read_caption(caption) for caption in captions}
    assert None not in scenes
    for row in rows(WRITTEN):
        assert plain(row["prompt"]) not in {plain(other["prompt"]) for other in trained}, row["prompt"]
        assert read_caption(row["reference"]) not in scenes, row["prompt"]


def test_they_are_balanced() -> None:
    found = Counter()
    for row in rows(WRITTEN):
        found.update((key.removesuffix("_2"), value) for key, value in parse_asked(row["asked"]).items())
    for key, values, least in (
        ("shape", SHAPES, 25), ("colour", COLOURS, 12), ("size", SIZES, 6), ("background", BACKGROUNDS, 5),
        ("motion", MOTIONS, 6), ("direction", DIRECTIONS, 6),
    ):  # fmt: skip
        counts = [found[key, value] for value in values]
        assert min(counts) >= least, (key, counts)
        assert key == "size" or max(counts) <= 2 * min(counts), (key, counts)


def test_the_oracle_scores_them_by_what_they_ask_for() -> None:
    written = rows(WRITTEN)[::9]
    scenes = [read_caption(row["reference"]) for row in written]
    clips = render_batch([scene for scene in scenes if scene], np.random.default_rng(0)).permute(0, 1, 3, 4, 2).numpy()
    right = [judge(row["prompt"], clip, parse_asked(row["asked"])) for row, clip in zip(written, clips, strict=True)]
    assert [verdict.score for verdict in right] == [1.0] * len(written)
    assert set(right[0].right) == set(parse_asked(written[0]["asked"]))
    # The first request is not one that the lab reads, and a clip of another scene is not what it asks for.
    assert judge(written[0]["prompt"], clips[0]).score is None
    wrong = judge(written[0]["prompt"], clips[1], parse_asked(written[0]["asked"]))
    assert wrong.score is not None
    assert wrong.score < 1
    # The critique says it in the user's words.
    assert 'asked for was "basketball bouncing".' in wrong.critique
    views = [
        View(row["prompt"], "", row["prompt"], (clip * 255).round().astype(np.uint8), 8.0, 0.25)
        for row, clip in zip(written, clips, strict=True)
    ]
    models = ModelPool(language=WordEmbedder(), embedder=WordEmbedder())
    with_labels = LabOracle(asked=str(WRITTEN)).judge(views, models)
    assert [item.score for item in with_labels] == [1.0] * len(written)
    assert LabOracle().judge(views, models)[0].score is None


def test_requests_without_a_label_are_read_as_before(tmp_path: Path) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("prompt,asked\nbasketball bouncing,shape=ball colour=orange\na red ball going up,\n")
    assert read_labels(str(file)) == {"basketball bouncing": {"shape": "ball", "colour": "orange"}}
    assert read_labels("") == {}
    caption = (
        "A simple animation shows a small orange ball rising slowly and steadily from the ground, in a sandy desert."
    )
    reader = CaptionReader(str(file))
    assert reader.right("basketball bouncing", caption) == {"shape": True, "colour": True}
    assert reader.right("a red ball going up", caption) == {"shape": True, "colour": False, "motion": True}


def test_prompts_are_read_with_their_group() -> None:
    prompts = read_prompts(str(WRITTEN))
    assert len(prompts) == 100
    assert {prompt.group for prompt in prompts} == {"hand-written"}


@pytest.mark.parametrize(
    "text",
    [
        "", "ball", "shape=cat", "form=ball", "shape=ball shape=square", "shape=ball motion=collide",
        "shape=ball shape_2=ball motion=fall", "shape=ball motion=rise direction=left_to_right",
        "shape=ball direction=left_to_right",
    ],
)  # fmt: skip
def test_a_wrong_label_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be attributes of the lab"):
        parse_asked(text)


def test_a_file_that_is_no_table_of_labels_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        read_labels(str(tmp_path / "none.csv"))
    (tmp_path / "bare.csv").write_text("prompt\na ball\n")
    with pytest.raises(UserError, match="needs the columns `prompt` and `asked`"):
        LabOracle(asked=str(tmp_path / "bare.csv"))
