"""What the study measures: what videos show, by the oracle's critique, and intervals over prompts."""

from __future__ import annotations

import numpy as np
import pytest

from rapo_lightning.data.prompts import read_prompts
from rapo_lightning.evaluation.statistics import bootstrap_interval
from rapo_lightning.lab.labels import read_labels
from rapo_lightning.lab.oracle import judge
from rapo_lightning.lab.reading import read_caption
from rapo_lightning.lab.render import render_batch
from rapo_lightning.lab.scene import Scene
from rapo_lightning.lab.study.measures import Arm, Video, named_right, shown_right
from rapo_lightning.lab.study.prompts import HELDOUT, WRITTEN
from rapo_lightning.lab.study.tables import Measured
from tests.helpers import ROOT


def _videos(
    scenes: list[Scene], prompts: list[str], shown: np.ndarray, labels: dict[str, dict[str, str]]
) -> tuple[Arm, list]:
    arm, verdicts = Arm("arm"), []
    for prompt, clip in zip(prompts, shown, strict=True):
        verdict = judge(prompt, clip, labels.get(prompt))
        verdicts.append(verdict)
        video = Video("arm", prompt, prompt, "", "1", "a small red ball", verdict.score or 0.0, verdict.critique)
        arm.videos[prompt].append(video)
    return arm, verdicts


def test_what_a_video_shows_is_read_off_the_critique() -> None:
    heldout, written = read_prompts(str(ROOT / HELDOUT), 60), read_prompts(str(ROOT / WRITTEN), 60)
    labels = read_labels(str(ROOT / WRITTEN))
    chosen = [*heldout, *written]
    scenes = [scene for prompt in chosen if (scene := read_caption(prompt.reference))]
    clips = render_batch(scenes, np.random.default_rng(0)).permute(0, 1, 3, 4, 2).numpy()
    prompts = [prompt.text for prompt in chosen]
    for turn in (0, 7):
        arm, verdicts = _videos(scenes, prompts, np.roll(clips, turn, axis=0), dict(labels))
        for prompt, verdict in zip(prompts, verdicts, strict=True):
            assert shown_right(arm, prompt, labels) == {key: float(value) for key, value in verdict.right.items()}, (
                prompt
            )


def test_intervals_resample_prompts_and_average_seeds_within_one() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((3, 20, 2))
    arms = {"best": Arm("best"), "raw": Arm("raw")}
    for prompt in range(20):
        request = f"a red ball {prompt}"
        for training, seed in np.ndindex(3, 2):
            video = Video(
                f"best.s{training}",
                str(prompt),
                request,
                "",
                str(seed),
                "a red ball",
                scores[training, prompt, seed],
                "",
            )
            arms["best"].videos[str(prompt)].append(video)
        arms["raw"].videos[str(prompt)].append(Video("raw", str(prompt), request, "", "0", request, 0.0, ""))
    ids = [str(number) for number in range(20)]
    summary = Measured(arms, ids, [""] * 20, {}, {}).summary(["raw", "best"], "raw")
    assert summary["arms"]["best"]["mean"] == pytest.approx(scores.mean())
    assert summary["arms"]["best"]["n"] == 20
    within = scores.mean(axis=(0, 2))
    assert summary["arms"]["best"]["ci95"] == pytest.approx(list(bootstrap_interval(within)), abs=2e-5)
    assert arms["best"].by_training() == pytest.approx(scores.mean(axis=(1, 2)))
    assert named_right(arms["best"], "0", {}) == {"shape": 1.0, "colour": 1.0}
