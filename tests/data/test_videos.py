from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rapo_lightning.data import videos
from rapo_lightning.data.videos import VideoStore, count_frames, read_video
from rapo_lightning.errors import RunError

FRAMES = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)


def test_videos_are_written_whole_in_the_background(tmp_path: Path) -> None:
    store, done = VideoStore(tmp_path), []
    store.write("videos/abc/2-x.mp4", FRAMES, 8, lambda: done.append(True))
    store.flush()
    assert done == [True]
    assert count_frames(tmp_path / "videos/abc/2-x.mp4") == 6
    assert read_video(tmp_path / "videos/abc/2-x.mp4").shape == FRAMES.shape
    assert not list((tmp_path / "videos/abc").glob(".*"))


@pytest.mark.parametrize("written", [b"", b"half of a video"])
def test_a_video_that_the_encoder_could_not_finish_is_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    store, done = VideoStore(tmp_path), []
    monkeypatch.setattr(store, "_encode", lambda path, frames, fps: path.write_bytes(written))
    store.write("videos/abc/0-x.mp4", FRAMES, 8, lambda: done.append(True))
    with pytest.raises(RunError, match="0 of 6 frames arrived"):
        store.flush()
    assert done == []
    assert list((tmp_path / "videos/abc").iterdir()) == []


def test_frames_are_put_aside_without_loss_and_cleaned_up(tmp_path: Path) -> None:
    store = VideoStore(tmp_path)
    store.keep("k", FRAMES)
    np.testing.assert_array_equal(VideoStore(tmp_path).kept("k"), FRAMES)
    (tmp_path / "pending/half.tmp").write_bytes(b"x")
    (tmp_path / "pending/cut.npy").write_bytes((tmp_path / "pending/k.npy").read_bytes()[:300])
    assert store.kept("cut") is None
    store.drop("k")
    store.drop("cut")
    assert store.kept("k") is None
    store.clean()
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_video_is_seen(tmp_path: Path) -> None:
    store = VideoStore(tmp_path)
    store.write("videos/a/0-x.mp4", FRAMES, 8, lambda: None)
    store.flush()
    size = store.size("videos/a/0-x.mp4")
    assert store.is_whole("videos/a/0-x.mp4", size)
    path = tmp_path / "videos/a/0-x.mp4"
    path.write_bytes(path.read_bytes()[:-100])
    assert not store.is_whole("videos/a/0-x.mp4", size)
    path.write_bytes(b"")
    with pytest.raises(RunError, match="cannot be read. Got no frame"):
        read_video(path)


def test_without_the_h264_encoder_videos_are_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos.importlib.util, "find_spec", lambda name: None)
    store = VideoStore(tmp_path)
    store.write("videos/a/0-x.mp4", FRAMES, 8, lambda: None)
    store.flush()
    assert count_frames(tmp_path / "videos/a/0-x.mp4") == 6
