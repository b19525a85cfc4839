"""Where a score is lost: causes of misses, the table, and the sheets for a reading by eye."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.errors import UserError
from rapo_lightning.lab.labels import read_labels
from rapo_lightning.lab.oracle import judge
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scripts import errors as script
from rapo_lightning.lab.steadiness import FAULTS
from rapo_lightning.lab.study.by_eye import count_readings, draw_failures
from rapo_lightning.lab.study.errors import (
    FAULT,
    Miss,
    all_misses,
    cause_of,
    count_errors,
    error_table,
    has_form,
    misses,
)
from rapo_lightning.lab.study.measures import Arm, Video
from rapo_lightning.lab.study.prompts import HELDOUT, WRITTEN
from rapo_lightning.lab.study.vocabulary import taught
from tests.data.test_trajectory import make_row
from tests.helpers import ROOT, tiny_recipe

END = "The motion is smooth and the camera stays fixed."
RIGHT = f"A simple animation shows a small yellow ball rising vertically at a constant speed, in a green meadow. {END}"
LABELS = read_labels(str(ROOT / WRITTEN))


def _video(prompt: str, text: str, score: float = 0.0, critique: str = "", group: str = "", seed: int = 1) -> Video:
    return Video("refiner", prompt, prompt, group, str(seed), text, score, critique)


@pytest.mark.parametrize(
    ("prompt", "key", "text", "cause"),
    [
        ("a lemon orb ascending", "colour", RIGHT, "video model failed"),
        ("a lemon orb ascending", "colour", RIGHT.replace("yellow", "green"), "word not known"),
        ("a golden orb ascending", "colour", RIGHT.replace("yellow", "green"), "named wrong"),
        ("a golden orb ascending", "colour", RIGHT.replace(" yellow", ""), "word dropped"),
        ("a golden orb ascending", "colour", RIGHT.replace("yellow", "golden"), "style left"),
        ("a golden orb ascending", "motion", RIGHT.replace("ball", "orb"), "style left"),
        ("a golden orb ascending", "shape", "a golden orb ascending", "style left"),
        ("a golden orb ascending", "shape", f"{RIGHT} {RIGHT}", "style left"),
        ("basketball bouncing", "motion", RIGHT, "named wrong"),
        ("a lime orb launched leftward like a cannonball", "direction", RIGHT, "word not known"),
        ("a lime orb tossed leftward", "direction", RIGHT, "named wrong"),
        (
            "a lime orb tossed leftward",
            "direction",
            RIGHT.replace("rising vertically at a constant speed", "thrown"),
            "word dropped",
        ),
        ("basketball bouncing", "colour", RIGHT, "word not known"),
    ],
)
def test_the_cause_of_a_miss(prompt: str, key: str, text: str, cause: str) -> None:
    assert cause_of(_video(prompt, text), key, LABELS) == cause


def test_a_fault_that_a_wrong_motion_makes_is_not_the_video_models() -> None:
    still = "A simple animation shows a small red ball resting still on the ground, in a green meadow. Nothing moves while the camera stays fixed."
    nothing, jump = FAULTS["still"], FAULTS["jumps"]

    def causes(text: str, critique: str) -> set[str]:
        return {
            miss.cause
            for miss in misses(_video("a red ball tossed", text, 0.25, critique), {})
            if miss.attribute == FAULT
        }

    assert causes(still, nothing) == {"named wrong"}
    assert causes(still, f"{nothing} {jump}") == {"video model failed"}
    thrown = still.replace("resting still on the ground", "thrown from left to right on a high parabolic arc")
    assert causes(thrown, nothing) == {"video model failed"}
    assert causes("a red ball tossed", nothing) == {"style left"}


def test_words_are_taught_by_value() -> None:
    assert taught("colour", "yellow", "golden")
    assert not taught("colour", "yellow", "lemon")
    assert not taught("colour", "red", "golden")
    assert taught("shape_2", "ball", "sphere")
    assert taught("motion", "roll", "rolls")
    assert not taught("motion", "rise", "climbing into the air")
    assert not taught("size", "small", "mini")


def test_references_have_the_form_and_requests_have_not() -> None:
    prompts = read_prompts(str(ROOT / HELDOUT))
    assert all(has_form(prompt.reference) and not has_form(prompt.text) for prompt in prompts)


def test_losses_add_up_to_what_the_oracle_took() -> None:
    prompts = [*read_prompts(str(ROOT / HELDOUT), 30), *read_prompts(str(ROOT / WRITTEN), 30)]
    scenes = [scene for prompt in prompts if (scene := read_caption(prompt.reference))]
    clips = render_batch(scenes, np.random.default_rng(0)).permute(0, 1, 3, 4, 2).numpy()
    clips[::2, ::2] *= 0.8
    arm, scores = Arm("refiner"), []
    for prompt, clip in zip(prompts, np.roll(clips, 7, axis=0), strict=True):
        verdict = judge(prompt.text, clip, LABELS.get(prompt.text))
        assert verdict.score is not None
        video = Video(
            "refiner", prompt.text, prompt.text, prompt.group, "1", prompt.reference, verdict.score, verdict.critique
        )
        arm.videos[prompt.text].append(video)
        scores.append(verdict.score)
        found = misses(video, LABELS)
        assert sum(miss.lost for miss in found) == pytest.approx(1 - verdict.score)
        assert {miss.attribute for miss in found} - {FAULT} == {
            key for key, right in verdict.right.items() if not right
        }
    counted = count_errors(arm, list(arm.videos), LABELS)
    assert counted.lost == pytest.approx(1 - np.mean(scores))
    # These texts are right, so that nothing else can be to blame.
    assert {loss.cause for loss in counted.losses} == {"video model failed"}
    assert any(loss.attribute == FAULT for loss in counted.losses)
    lines = error_table(counted).splitlines()
    assert len(lines) == 2 + 7 + 2
    assert lines[-1].endswith(f"| {counted.lost:.4f} |  |")
    assert misses(_video("a red ball", RIGHT, float("nan")), LABELS) == []


def test_failures_are_drawn_by_their_share_from_different_prompts() -> None:
    def miss(number: int, cause: str, score: float) -> Miss:
        return Miss(_video(f"prompt {number}", RIGHT, score), "colour", cause, 0.5)

    found = [miss(n, "named wrong", 0.5 + n / 100) for n in range(30)] + [
        miss(n, "word dropped", 0.2) for n in range(25, 35)
    ]
    drawn = draw_failures(found, 8, 0)
    assert [item.cause for item in drawn].count("word dropped") == 2
    assert len({item.video.prompt_id for item in drawn}) == 8
    assert [item.video.prompt_id for item in drawn if item.cause == "named wrong"] == [f"prompt {n}" for n in range(6)]
    assert draw_failures(found, 8, 0) == drawn
    assert len(draw_failures(found, 100, 0)) == 35


def _run(folder: Path, language_model: Path) -> Path:
    prompts = folder / "heldout.csv"
    requests = ["a lemon orb ascending", "a lemon ball ascending", "the lemon ball ascending", "basketball bouncing"]
    groups = ["new wording"] * 3 + ["hand-written"]
    prompts.write_text("prompt,group\n" + "".join(f"{a},{b}\n" for a, b in zip(requests, groups, strict=True)))
    tiny_recipe(folder, language_model, evaluation__prompts=str(prompts), evaluation__limit=0).rename(
        folder / "recipe.yaml"
    )
    wrong, rows = "The video shows a green body; asked for was lemon.", []
    for prompt in read_prompts(str(prompts)):
        missed = prompt.group == "new wording"
        row = make_row(
            prompt.id, 0, 2 / 3 if missed else 1.0, source_prompt=prompt.text, prompt=RIGHT, critique=wrong * missed
        )
        rows.append({key: value for key, value in row.items() if key != "score_b"})
    TrajectoryStore(folder / "evaluation/arms/best.s0", ["a"]).append(rows)
    return folder


def test_sheets_are_drawn_and_counted(tmp_path: Path, language_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(tmp_path, language_model)
    arguments = [str(run), "--arm", "refiner", "--labels", str(ROOT / WRITTEN), "--sheet", "2"]
    assert script.main(arguments) == 0
    out = run / "errors-refiner"
    page = (out / "errors.md").read_text()
    assert "## New wording\n\n3 videos; mean score 0.6667." in page
    assert "## Hand-written\n\n1 videos; mean score 1.0000." in page
    assert (out / "failures-1.png").stat().st_size > 1000
    readings = out / "readings.csv"
    with readings.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["cause"], row["attribute"], row["asked"], row["by_eye"]) for row in rows] == [
        ("video model failed", "colour", "yellow", "")
    ] * 2
    with pytest.raises(UserError, match="must be filled in"):
        count_readings(readings)
    readings.write_text(readings.read_text().replace("video model failed,,", "video model failed,Named wrong,", 1))
    capsys.readouterr()
    assert script.main(["--count", str(readings)]) == 0
    assert "0 of 1 readings are the cause that was told; 1 rows are not filled in." in capsys.readouterr().out
    assert script.main(arguments) == 2
    assert "are not written over" in capsys.readouterr().err
    readings.write_text(readings.read_text().replace("Named wrong", "bad luck"))
    with pytest.raises(UserError, match="Got 'bad luck'"):
        count_readings(readings)
    assert script.main([str(run), "--arm", "nobody"]) == 2
    assert "name one of best" in capsys.readouterr().err


def test_all_misses_are_of_the_prompts_that_are_asked_for() -> None:
    arm = Arm("refiner")
    wrong = "The video shows a green body; asked for was lemon."
    for name in ("a lemon orb ascending", "a lemon ball ascending"):
        arm.videos[name].append(_video(name, RIGHT, 2 / 3, wrong))
    assert len(all_misses(arm, ["a lemon orb ascending"], {})) == 1
