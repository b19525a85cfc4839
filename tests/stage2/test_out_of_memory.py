"""Memory runs out while videos are made: smaller batches, the same videos, and one line that says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.data.videos import read_video
from rapo_lightning.errors import RunError
from rapo_lightning.models import DiffusersVideoModel
from rapo_lightning.stage2.generation import generate_or_halve
from tests.helpers import tiny_recipe
from tests.verifiers.clips import moving_patch, rolling

LINE = "Memory ran out at {} videos per call of the video model: from here on it makes {}."
VIDEO = moving_patch(rolling(5), (64, 64))


class Tight:
    """A video model whose device holds so many videos; each is a function of its seed."""

    name, fps, batch_size = "tight", 8.0, 8

    def __init__(self, room: int = 3, error: Exception | None = None) -> None:
        self.room, self.error, self.sizes = room, error or torch.OutOfMemoryError("CUDA out of memory."), list[int]()

    def load(self) -> None: ...

    def to(self, device: torch.device) -> None: ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        self.sizes.append(len(prompts))
        if len(prompts) > self.room:
            raise self.error
        return [np.roll(VIDEO, seed % 64, axis=2) for seed in seeds]


class TightPipeline(DiffusersVideoModel):
    """A real pipeline on a device that holds so many videos, filled-up ones counted."""

    def __init__(self, checkpoint: str, call: dict[str, Any], room: int = 99, batch_size: int = 4) -> None:
        super().__init__(checkpoint, call=call, fps=8.0, dtype="float32", batch_size=batch_size)
        self.room = room

    def load(self) -> None:
        if self._pipeline is not None:
            return
        super().load()
        run: Any = self._pipeline

        def tight(**arguments: Any) -> Any:
            if len(arguments["prompt_embeds"]) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return run(**arguments)

        self._pipeline = tight


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.OutOfMemoryError("said otherwise", 2),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual."),
        MemoryError(),
    ],
)
def test_the_batch_is_halved_for_good(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    model = Tight(3, error)
    assert generate_or_halve(model, ["a"] * 8, list(range(8))) is None
    assert model.batch_size == 4
    assert generate_or_halve(model, ["a"] * 4, list(range(4))) is None
    made = generate_or_halve(model, ["a", "b"], [3, 4])
    assert made is not None
    np.testing.assert_array_equal(made[1], np.roll(VIDEO, 4, axis=2))
    assert model.batch_size == 2
    assert Tight.batch_size == 8
    assert caplog.messages == [LINE.format(8, 4), LINE.format(4, 2)]


def test_a_video_that_does_not_fit_alone_says_what_to_do() -> None:
    model = Tight(0)
    model.batch_size = 1
    with pytest.raises(RunError, match=r"Got too little for tests.*Tight with a batch of one; make smaller or shorter"):
        generate_or_halve(model, ["a"], [0])


def test_a_batch_size_that_cannot_be_set_is_named() -> None:
    class Fixed(Tight):
        batch_size = property(lambda self: 4)  # type: ignore[assignment]

    with pytest.raises(RunError, match=r"must be an attribute that can be set.*Got tests.*Fixed, which refuses it"):
        generate_or_halve(Fixed(0), ["a"] * 4, [0] * 4)


def test_another_error_is_not_taken_for_it() -> None:
    for error in (RuntimeError("expected scalar type Half"), ValueError("out of memory.")):
        with pytest.raises(type(error), match=str(error)):
            generate_or_halve(Tight(0, error), ["a"], [0])


def collect(folder: Path, language_model: Path, room: int, **changes: Any) -> Path:
    out = folder / f"room-{room}"
    folder = folder / f"recipe-{room}"
    folder.mkdir()
    recipe = tiny_recipe(
        folder, language_model, limit=6, stage2__rounds=2, stage2__batch_size=6,
        video_model={"class_path": f"{__name__}.Tight", "init_args": {"room": room}},
        stage2__verifiers=[{"class_path": "rapo_lightning.verifiers.TemporalCoherence"}], **changes,
    )  # fmt: skip
    assert main(["collect", str(recipe), "--out", str(out), "--allow_package", "tests"]) in (0, 1)
    return out


def test_a_run_goes_on_with_smaller_batches_to_the_same_videos(
    tmp_path: Path, language_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = collect(tmp_path, language_model, 99)
    assert caplog.messages == []
    tight = collect(tmp_path, language_model, 3)
    # Six of eight fit not, nor four, and then the rest of the run keeps to two.
    assert caplog.messages == [LINE.format(8, 4), LINE.format(4, 2)]
    expected, rows = read_rows(whole / "trajectories"), read_rows(tight / "trajectories")
    assert [(row["prompt"], row["seed"]) for row in rows] == [(row["prompt"], row["seed"]) for row in expected]
    for row, other in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(read_video(tight / row["video"]), read_video(whole / other["video"]))


def test_what_was_made_before_the_memory_was_too_small_is_kept(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Tight, "batch_size", 2)
    generate = Tight.generate

    def once(self: Tight, prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        self.room = 0 if self.sizes else 2
        return generate(self, prompts, seeds)

    monkeypatch.setattr(Tight, "generate", once)
    out = collect(tmp_path, language_model, 2)
    assert "Got too little for tests.stage2.test_out_of_memory.Tight" in capsys.readouterr().err
    assert len((out / "records/generations.0.jsonl").read_text().splitlines()) == 2


def test_a_real_pipeline_makes_the_same_videos_in_smaller_batches(caplog: pytest.LogCaptureFixture) -> None:
    call = {"height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 1, "guidance_scale": 3.0,
            "max_sequence_length": 64}  # fmt: skip
    prompts, seeds = ["a red ball", "a blue square", "a ball", "b"], [5, 6, 7, 8]
    whole = DiffusersVideoModel("lab/video_model", call=call, fps=8.0, dtype="float32", batch_size=4)
    model = TightPipeline("lab/video_model", call, room=2)
    # A short batch is filled up, so its size counts as well.
    assert generate_or_halve(model, prompts[:1], seeds[:1]) is None
    made = [
        video for at in (0, 2) for video in generate_or_halve(model, prompts[at : at + 2], seeds[at : at + 2]) or []
    ]
    assert caplog.messages == [LINE.format(4, 2)]
    for video, expected in zip(made, whole.generate(prompts, seeds), strict=True):
        difference = np.abs(video.astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 1e-3
