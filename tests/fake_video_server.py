"""A `/v1/videos` server for tests that answers what a test tells it to, bad things too, and remembers what it was asked."""

from __future__ import annotations

import email
import email.policy
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.outside_engine import write

Job = dict[str, Any]


@dataclass
class Reply:
    """What goes back: a body as it is, no reply at all (`close`), or one cut off in the middle (`cut`)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    cut: bool = False


def told(status: int, value: Any, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


def video(prompt: str, seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write(path, prompt, seed)
        return path.read_bytes()


class FakeVideoServer:
    """The server; `script(what, job, count)` may answer in its place.

    `what` is create, status, content, delete or models, `job` the fields that were sent, `count` how often that was asked
    of that prompt before.
    """

    def __init__(self, script: Callable[[str, Job, int], Reply | None]) -> None:
        self.script = script
        self.jobs: dict[str, Job] = {}
        self.created: list[Job] = []
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.httpd.daemon_threads = True
        threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.httpd.server_address[1]}/v1"

    def count(self, what: str) -> int:
        return sum(kind == what for kind, _ in self.asked)

    def answer(self, method: str, path: str, fields: Job) -> Reply:
        parts = path.split("/")[2:]
        what = {"POST": "create", "DELETE": "delete"}.get(method, "status")
        what = "models" if parts[0] == "models" else "content" if len(parts) == 3 else what
        with self.lock:
            job = fields if what == "create" else self.jobs.get(parts[1], {}) if len(parts) > 1 else {}
            prompt = str(job.get("prompt", ""))
            count = self.asked.count((what, prompt))
            self.asked.append((what, prompt))
            if what == "create":
                self.created.append(fields)
        own = self.script(what, job, count)
        if own is not None:
            return own
        if what == "models":
            return told(200, {"object": "list", "data": [{"id": "m"}]})
        if what == "create":
            with self.lock:
                name = f"video-{len(self.jobs)}"
                self.jobs[name] = fields
            return told(200, {"id": name, "status": "queued"})
        if not job:
            return told(404, {"detail": "Video not found"})
        if what == "delete":
            with self.lock:
                del self.jobs[parts[1]]
            return told(200, {"id": parts[1], "deleted": True})
        if what == "content":
            return Reply(200, video(prompt, int(job["seed"])), {"Content-Type": "video/mp4"})
        return told(200, {"id": parts[1], "status": "in_progress" if count == 0 else "completed"})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None: ...

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with fake.lock:
                    fake.headers.append({name.lower(): value for name, value in self.headers.items()})
                self._send(fake.answer(self.command, self.path, _fields(self.headers.get("Content-Type", ""), body)))

            do_GET = do_POST = do_DELETE = _do

            def _send(self, reply: Reply) -> None:
                if reply.close:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.body))}
                for name, value in (headers | reply.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
                self.close_connection |= reply.cut

        return Handler


def _fields(kind: str, body: bytes) -> Job:
    """The fields of a JSON body, or of a form, where all are texts."""
    if kind.startswith("application/json"):
        return dict(json.loads(body))
    if not kind.startswith("multipart/form-data"):
        return {}
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True).decode()
        for part in message.iter_parts()
    }


@contextmanager
def serving_videos(
    script: Callable[[str, Job, int], Reply | None] = lambda what, job, count: None,
) -> Iterator[FakeVideoServer]:
    """A server that runs inside."""
    server = FakeVideoServer(script)
    try:
        yield server
    finally:
        server.httpd.shutdown()
        server.httpd.server_close()
