"""Video models behind a server that is busy, breaks, loses jobs, and sends half a video."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import read_rows
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.models import ModelPool, VideoServer, server_rotation, video_jobs
from rapo_lightning.recipe.identity import component_identity
from rapo_lightning.verifiers.usable import NOT_MADE, unreadable
from tests.fake_video_server import Job, Reply, serving_videos, told
from tests.helpers import WordEmbedder, tiny_recipe

PATH = "rapo_lightning.models.VideoServer"
PROMPTS, SEEDS = ["a dog", "a red ball", "a cat on a sofa"], [11, 50, 120]
SETTINGS: dict[str, Any] = {
    "width": 32, "height": 32, "num_frames": 5, "num_inference_steps": 2, "guidance_scale": 5.0, "fps": 8.0,
}  # fmt: skip
KEY = "sk-test-0123456789abcdefghij"


def model(url: str | list[str], **more: Any) -> VideoServer:
    return VideoServer(url, "m", **{**SETTINGS, "retries": 2, "timeout": 5.0, **more})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_rotation, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(video_jobs, "_FIRST_POLL", 0.01)
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def is_whole(videos: list[np.ndarray]) -> None:
    assert [video.shape for video in videos] == [(5, 32, 32, 3)] * len(videos)
    for video, seed in zip(videos, SEEDS, strict=False):
        assert abs(int(video[0, -1, -1, 0]) - seed) < 12


def left(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "cache/videos").rglob("*.*") if path.is_file())


def refused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.parametrize("body", ["form", "json"])
def test_every_field_is_sent_and_nothing_stays_behind(body: Any, tmp_path: Path) -> None:
    with serving_videos() as server:
        fields = {"negative_prompt": "blurry ☂", "flow_shift": 8.0, "extra_params": {"a": 1}, "unknown": None}
        is_whole(model(server.url, body=body, fields=fields).generate(PROMPTS, SEEDS))
        sent = next(job for job in server.created if job["prompt"] == "a red ball")
        expected = {
            "model": "m", "prompt": "a red ball", "seed": 50, "width": 32, "height": 32, "size": "32x32", "num_frames": 5,
            "fps": 8, "num_inference_steps": 2, "guidance_scale": 5.0, "negative_prompt": "blurry ☂", "flow_shift": 8.0,
            "extra_params": {"a": 1},
        }  # fmt: skip
        texts = {**{name: str(value) for name, value in expected.items()}, "extra_params": '{"a": 1}'}
        assert sent == (expected if body == "json" else texts)
        assert server.count("delete") == 3
        assert server.jobs == {}
        assert "authorization" not in server.headers[-1]
    assert left(tmp_path) == []


def test_busy_broken_and_half_answers_are_tried_again(tmp_path: Path) -> None:
    bad: dict[tuple[str, str, int], Reply] = {
        ("create", "a dog", 0): told(429, {"error": {"message": "full"}}, Retry_After="0.4"),
        ("create", "a dog", 1): told(500, {"detail": "broke"}),
        ("create", "a red ball", 0): Reply(200, b"no json"),
        ("status", "a red ball", 0): told(429, {}, Retry_After="0.05"),
        ("status", "a red ball", 1): told(503, {}),
        ("content", "a red ball", 0): Reply(200, b"\0" * 5000, cut=True),
        ("status", "a cat on a sofa", 1): told(200, {"status": "failed", "error": {"message": "out of memory"}}),
        ("content", "a cat on a sofa", 0): Reply(200, b"half a video"),
    }
    times: list[float] = []

    def script(what: str, job: Job, count: int) -> Reply | None:
        if (what, job.get("prompt")) == ("create", "a dog"):
            times.append(time.monotonic())
        return bad.get((what, job.get("prompt", ""), count))

    with serving_videos(script) as server:
        is_whole(model(server.url).generate(PROMPTS, SEEDS))
        # What the server asked for is waited for, and no more than a pause after the error that followed.
        assert times[1] - times[0] >= 0.4 > times[2] - times[1]
        assert sorted(job["prompt"] for job in server.created).count("a cat on a sofa") == 3
    assert left(tmp_path) == []


def test_a_video_that_fails_for_good_is_none_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def script(what: str, job: Job, count: int) -> Reply | None:
        if what == "status" and job["prompt"] == "a red ball":
            return told(200, {"status": "failed", "error": {"message": "not\nallowed"}})
        return told(422, {"detail": "empty"}) if what == "create" and job["prompt"] == "" else None

    with serving_videos(script) as server:
        asked = model(server.url)
        videos = asked.generate([*PROMPTS, ""], [*SEEDS, 1])
        assert [unreadable(video) for video in videos] == ["", NOT_MADE, "", NOT_MADE]
        # Asked once where asking again cannot help.
        assert [job["prompt"] for job in server.created].count("") == 1
        assert [job["prompt"] for job in server.created].count("a red ball") == 3
        assert "2 of 4 videos were not made: a job that is 'failed': not allowed" in capsys.readouterr().err
        # Now it is known that the server can, and one alone may fail, in another process too.
        assert unreadable(asked.generate(["a red ball"], [50])[0]) == NOT_MADE
        assert unreadable(model(server.url).generate(["a red ball"], [50])[0]) == NOT_MADE
        # But not all, one after another: then it is the server.
        asked = model(server.url, concurrency=2)
        for _ in range(3):
            asked.generate(["a red ball", ""], [50, 1])
        with pytest.raises(RunError, match="must make videos. Got 8 in a row that failed, the last with HTTP 422"):
            asked.generate(["a red ball", ""], [50, 1])


@pytest.mark.parametrize(
    ("reply", "what", "message"),
    [
        (told(404, {"detail": "no"}), "create", "must serve the model m. Got HTTP 404: no; correct"),
        (
            told(400, {"detail": "num_frames"}),
            "create",
            "The first videos of m .* must be made. Got HTTP 400: num_frames",
        ),
        (told(429, {}, Retry_After="0"), "create", "must have room. Got HTTP 429.* after 3 tries"),
        (told(200, {"id": "../x"}), "create", "Got a job without a name"),
        (told(200, {"status": "in_progress"}), "status", "Got no video within 0.2 s"),
    ],
)
def test_what_would_fail_for_all_stops_the_run(reply: Reply, what: str, message: str) -> None:
    waits: dict[str, Any] = {"job_timeout": 0.2, "retries": 0} if what == "status" else {}
    with (
        serving_videos(lambda kind, job, count: reply if kind == what else None) as server,
        pytest.raises(RunError, match=message),
    ):
        model(server.url, **waits).generate(PROMPTS, SEEDS)


def test_a_server_that_goes_away_stops_the_run_and_nothing_made_is_lost(tmp_path: Path) -> None:
    gone = False

    def script(what: str, job: Job, count: int) -> Reply | None:
        nonlocal gone
        gone = gone or (what == "status" and job.get("prompt") == "a cat on a sofa")
        return Reply(close=True) if gone else None

    with serving_videos(script) as server:
        asked = model(server.url, concurrency=1)
        with pytest.raises(RunError, match="must go on answering. Got no connection.*run the same command again"):
            asked.generate(PROMPTS, SEEDS)
        # Two are here, the third is a job there.
        assert left(tmp_path) == [".job", ".mp4", ".mp4"]
        gone, server.script = False, lambda what, job, count: None
        is_whole(model(server.url, concurrency=1).generate(PROMPTS, SEEDS))
        prompts = [job["prompt"] for job in server.created]
        assert prompts.count("a dog") == prompts.count("a red ball") == 1
    assert left(tmp_path) == []


def test_a_job_in_flight_is_gone_on_with_and_one_that_is_lost_made_anew(tmp_path: Path) -> None:
    with serving_videos() as server:
        server.script = lambda what, job, count: told(200, {"status": "queued"}) if what == "status" else None
        with pytest.raises(RunError, match="no video within"):
            model(server.url, job_timeout=0.3, retries=0).generate(PROMPTS[:1], SEEDS[:1])
    with serving_videos() as server:
        asked = model(server.url)
        asked.load()
        name = asked._rotation.servers[0].client.create({"prompt": "a dog", "seed": 11})  # type: ignore[union-attr]
        key = asked._kept.key("a dog", 11)
        asked._kept.folder.mkdir(parents=True, exist_ok=True)
        asked._note(key).write_text(f'{{"url": "{server.url}", "id": "{name}"}}')
        is_whole(asked.generate(PROMPTS[:1], SEEDS[:1]))
        assert len(server.created) == 1
        asked._note(key).write_text(f'{{"url": "{server.url}", "id": "lost"}}')
        is_whole(asked.generate(PROMPTS[:1], SEEDS[:1]))
        assert len(server.created) == 2
        asked._note(key).write_text('{"url": "http://elsewhere/v1", "id"')
        is_whole(asked.generate(PROMPTS[:1], SEEDS[:1]))
        assert len(server.created) == 3
    assert left(tmp_path) == []


def test_several_servers_share_the_work_and_a_dead_one_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with serving_videos() as one, serving_videos() as two:
        made = model([one.url, refused_url(), two.url], concurrency=2)
        assert len(made.generate([str(number) for number in range(8)], list(range(8)))) == 8
        assert len(one.created) + len(two.created) == 8
        assert min(len(one.created), len(two.created)) >= 2
    assert capsys.readouterr().err.count("left out for 30 s") == 1


def test_the_key_is_sent_and_never_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")

    def script(what: str, job: Job, count: int) -> Reply | None:
        failed = {"status": "failed", "error": {"message": f"bad {KEY}"}}
        return told(200, failed) if what == "status" else told(401, {}) if what == "delete" else None

    with serving_videos(script) as server:
        with pytest.raises(RunError, match=r"bad \*\*\*") as caught:
            model(server.url).generate(PROMPTS, SEEDS)
        assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)
        server.script = lambda what, job, count: told(401, {"error": KEY})
        with pytest.raises(UserError, match="must accept the key. Got HTTP 401 with the key in OPENAI_API_KEY"):
            model(server.url).load()
    assert KEY not in str(caught.value) + caplog.text + capsys.readouterr().err


def test_a_server_is_asked_before_anything_else() -> None:
    with pytest.raises(UserError, match="A server for m must answer at .*Got no connection"):
        model(refused_url()).load()
    with (
        serving_videos(lambda what, job, count: told(200, {"data": [{"id": "other"}]})) as server,
        pytest.raises(UserError, match="must serve the model m. Got other; correct"),
    ):
        model(server.url).load()
    # Not every server lists its models.
    for reply in (told(404, {}), told(200, {"model_path": "m"}), told(200, []), Reply(200, b"<html>")):
        with serving_videos(lambda what, job, count, reply=reply: reply if what == "models" else None) as server:
            is_whole(model(server.url).generate(PROMPTS[:1], SEEDS[:1]))


def test_nothing_has_to_make_room_for_it() -> None:
    places: list[object] = []

    class Embedder(WordEmbedder):
        def to(self, device: object) -> None:
            places.append(device)

    with serving_videos() as server:
        pool = ModelPool(video=model(server.url), embedder=Embedder(), policy="swap")
        _ = pool.embedder, pool.video
    assert len(places) == 1


@pytest.mark.parametrize(
    ("arguments", "told_"),
    [
        ({"url": "ftp://x"}, "`url` must be like"),
        ({"num_frames": 0}, "Got another in num_frames"),
        ({"fields": {"seed": 1}}, "`fields` may set anything but .*Got seed"),
        ({"key_variable": "HOME"}, "`key_variable` must be"),
        ({"retries": -1}, "Got another in retries"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], told_: str) -> None:
    with pytest.raises(UserError, match=told_):
        VideoServer(**{"url": "http://x/v1", "model": "m", **SETTINGS, **arguments})


def test_identity_has_what_changes_a_video_and_not_where_it_is_made() -> None:
    def identity(**more: Any) -> Any:
        return component_identity(
            {"class_path": PATH, "init_args": {"url": "http://x/v1", "model": "m", **SETTINGS, **more}}
        )

    first = identity()
    same: dict[str, Any] = {"url": "http://y/v1", "concurrency": 1, "timeout": 1.0, "job_timeout": 9.0, "retries": 0}
    assert all(identity(**{name: value}) == first for name, value in same.items())
    assert identity(num_frames=9) != first != identity(fields={"flow_shift": 3.0})


def test_a_run_goes_on_after_a_video_that_was_not_made(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first: list[str] = []

    def script(what: str, job: Job, count: int) -> Reply | None:
        if what == "create":
            first[:] = first or [job["prompt"]]
        return told(200, {"status": "failed"}) if what == "status" and [job["prompt"]] == first else None

    with serving_videos(script) as server:
        init_args = {"url": server.url, "model": "m", **SETTINGS, "retries": 0}
        path = tiny_recipe(
            tmp_path,
            language_model,
            limit=2,
            stage2__rounds=1,
            video_model={"class_path": PATH, "init_args": init_args},
        )
        out = tmp_path / "run"
        arguments = ["collect", str(path), "--out", str(out), "--allow_package", "tests"]
        assert main(arguments) == 0
        rows = read_rows(out / "trajectories")
        assert sorted(bool(row["video"]) for row in rows) == [False, True]
        (none,) = [row for row in rows if not row["video"]]
        assert NOT_MADE in none["critique"]
        assert none["score_temporal_coherence"] is None
        assert all(row["video_model"] == "m" for row in rows)
        count = len(server.created)
        assert main(arguments) == 0
        assert len(server.created) == count
    saved = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in content for content in saved)
