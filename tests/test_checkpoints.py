from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rapo_lightning.checkpoints import ensure, entries, fetch, locate, ready_folder, verify
from rapo_lightning.checkpoints.download import download, index_url
from rapo_lightning.checkpoints.manifest import Entry
from rapo_lightning.checkpoints.verify import write_marker
from rapo_lightning.errors import RunError, UserError

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
