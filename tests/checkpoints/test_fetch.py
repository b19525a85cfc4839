from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from rapo_lightning.checkpoints import ensure, entries, fetch, locate, ready_folder, verify
from rapo_lightning.checkpoints.download import download, index_url
from rapo_lightning.checkpoints.fetch import check_space
from rapo_lightning.checkpoints.manifest import Entry
from rapo_lightning.checkpoints.verify import write_marker
from rapo_lightning.errors import RunError, UserError
from tests.helpers import ROOT

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    ranges: list[str | None] = []

    def do_GET(self) -> None:
        if self.path.startswith("/simple/"):
            body, status = b'<a href="../../files/thing-1.0-py3-none-any.whl#sha256=x">thing</a>', 200
        else:
            wanted = self.headers.get("Range")
            type(self).ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            body, status = CONTENT[start:], 206 if wanted else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Handler.ranges = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()


def test_interrupted_download_goes_on(server: str, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    download(f"{server}/files/x", target, SHA)
    assert target.read_bytes() == CONTENT
    assert Handler.ranges == ["bytes=1000-"]
    assert not (tmp_path / "file.bin.part").exists()


def test_wrong_content_is_refused_and_removed(server: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not the pinned file"):
        download(f"{server}/files/x", tmp_path / "f", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_wheel_is_found_on_the_index(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{server}/simple")
    assert index_url("thing", "thing-1.0-py3-none-any.whl") == f"{server}/files/thing-1.0-py3-none-any.whl"
    with pytest.raises(RunError, match="does not list other"):
        index_url("thing", "other-1.0.whl")


def test_failure_names_every_source(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", f"{server}/simple")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    entry = Entry("thing", "model", "mit", 1, hub={"repo": "o/thing", "revision": "0", "allow": []},
                  index={"package": "thing", "wheel": "none.whl", "sha256": "0", "folder": "x"})  # fmt: skip
    with pytest.raises(RunError) as caught:
        fetch(entry)
    for part in ("local folder", "hub o/thing: HF_HUB_OFFLINE", "index none.whl"):
        assert part in str(caught.value)
    assert ready_folder(entry) is None


def test_changed_and_missing_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path))
    entry = Entry("thing", "model", "mit", 1)
    folder = tmp_path / "thing"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    assert "not here" in verify(entry)[0]
    write_marker(folder)
    assert verify(entry) == []
    (folder / "a").write_text("changed")
    (folder / "b").unlink()
    assert [("has changed" in text, "is missing" in text) for text in verify(entry)] == [(True, False), (False, True)]


def test_shipped_checkpoints_are_whole() -> None:
    for name in ("lab/video_model", "lab/refiner"):
        assert verify(entries()[name]) == []


def test_names_are_resolved_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path))
    assert locate(str(tmp_path)) == str(tmp_path)
    assert locate("Wan-AI/Wan2.1-T2V-1.3B-Diffusers") == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    with pytest.raises(UserError, match="ckpt fetch smollm2-135m-instruct"):
        locate("smollm2-135m-instruct")
    with pytest.raises(UserError, match="Got 'nothing'"):
        locate("nothing")
    ensure(["not-in-the-manifest"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """A hub that breaks off once after the first file; returns its calls."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(repo: str, local_dir: Path, **options: Any) -> None:
        calls.append({"repo": repo, "seen": sorted(path.name for path in local_dir.rglob("*.*")), **options})
        inner = local_dir / "deep" / "lora"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / "adapter_config.json").write_text("{}")
        if len(calls) == 1:
            raise httpx.ReadTimeout("broken off")
        (inner / "adapter_model.safetensors").write_text("x")
        (inner / "checkpoint-1").mkdir()
        (inner / "checkpoint-1" / "adapter_config.json").write_text("{}")

    monkeypatch.setenv("RAPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx, "head", lambda *_, **__: None)
    return calls


def test_interrupted_hub_download_goes_on(hub: list[dict[str, Any]], tmp_path: Path) -> None:
    entry = Entry("thing", "adapter", "unstated", 0, hub={"repo": "o/thing", "revision": None, "allow": ["*"]})
    with pytest.raises(RunError, match="hub o/thing: broken off"):
        fetch(entry)
    assert ready_folder(entry) is None
    folder = fetch(entry)
    assert [call["seen"] for call in hub] == [[], ["adapter_config.json"]]
    assert hub[0]["revision"] == "main"
    assert (folder / "deep/lora/adapter_model.safetensors").is_file()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["thing", "thing.lock"]


def test_folder_that_holds_a_file_is_the_checkpoint(hub: list[dict[str, Any]]) -> None:
    place = {"repo": "o/thing", "revision": None, "allow": ["*"], "holds": "adapter_config.json"}
    entry = Entry("thing", "adapter", "unstated", 0, hub=place)
    hub.append({})
    assert (fetch(entry) / "adapter_model.safetensors").is_file()
    missing = Entry("other", "adapter", "unstated", 0, hub={**place, "holds": "nothing.json"})
    with pytest.raises(RunError, match="none of its files is 'nothing.json'"):
        fetch(missing)


def test_gated_checkpoint_says_what_to_accept(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match=r"licence \(llama3.1\) must be accepted .* a token of that account set"):
        fetch(entries()["llama-3.1-8b-instruct"])


def test_full_disk_is_found_before_the_first_download(
    hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20_000 * 10**6))
    with pytest.raises(RunError, match="Got 20,000 MB free in .*, and 31,320 MB are needed"):
        ensure(["qwen2.5-7b-instruct", "llama-3.1-8b-instruct", "qwen2.5-7b-instruct", "owner/name"])
    assert hub == []
    hub.append({})
    ensure(["rapo-rewriter"])
    assert "fetching rapo-rewriter: 0 MB and what is of unknown size into" in capsys.readouterr().out


def test_what_is_made_of_parts_needs_its_base_and_no_download_of_its_own(
    hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=500 * 10**6))
    with pytest.raises(RunError, match="no room for smollm2-135m-instruct, lab/judge. Got 500 MB .* 550 MB are needed"):
        ensure(["lab/judge"])
    assert hub == []
    check_space([entries()[name] for name in ("smollm2-135m-instruct", "all-minilm-l6-v2")])
    check_space([entries()["lab/judge"]])
    both, judge = capsys.readouterr().out.splitlines()
    assert both.startswith("fetching smollm2-135m-instruct, all-minilm-l6-v2: 361 MB into")
    assert judge.startswith("making lab/judge: 280 MB into")


def test_own_manifest_and_shipped_folders_are_used_wherever_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ckpt/lab/video_model").mkdir(parents=True)
    (tmp_path / "ckpt/manifest.yaml").write_text("evil: {kind: x, licence: y, megabytes: 1}\n")
    monkeypatch.chdir(tmp_path)
    entries.cache_clear()
    try:
        assert "evil" not in entries()
        assert ready_folder(entries()["lab/video_model"]) == ROOT / "ckpt/lab/video_model"
    finally:
        entries.cache_clear()


def test_damaged_checksums_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAPO_CACHE", str(tmp_path))
    (tmp_path / "thing").mkdir()
    for content in ('{"a": "1', "[]", '{"a": 1}'):
        (tmp_path / "thing" / "checksums.json").write_text(content)
        (fault,) = verify(Entry("thing", "model", "mit", 1))
        assert "checksums.json is damaged" in fault
