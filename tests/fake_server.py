"""A chat server for tests that answers what a test tells it to, bad things too, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rapo_lightning.models import server_rotation

Body = dict[str, Any]


@dataclass
class Answer:
    """What goes back: a body as it is, no reply at all (`close`), or one after `delay` seconds."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    delay: float = 0.0


def chat(content: Any, logprobs: Any = None, **more: Any) -> Answer:
    """A well-formed chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    body = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{**choice, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip
    return Answer(json.dumps(body).encode(), **more)


def error(status: int, message: str = "no", **headers: str) -> Answer:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "t"}}).encode()
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def said(body: Body) -> str:
    """The text of the last turn of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


class FakeServer:
    """The server; `script` gets a request's body and how often its last text was asked before."""

    def __init__(self, script: Callable[[Body, int], Answer], models: Answer | None = None) -> None:
        self.script, self.models = script, models or Answer(b'{"object": "list", "data": []}')
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.most, self._now, self._lock = 0, 0, threading.Lock()
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.httpd.daemon_threads = True
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.httpd.server_address[1]}/v1"

    def stop(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()

    def answer(self, body: Body, headers: dict[str, str]) -> Answer:
        with self._lock:
            asked = sum(said(body) == said(other) for other in self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            answer = self.script(body, asked)
            time.sleep(answer.delay)
            return answer
        finally:
            with self._lock:
                self._now -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                self._send(fake.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(fake.answer(body, {name.lower(): value for name, value in self.headers.items()}))

            def _send(self, answer: Answer) -> None:
                if answer.close:
                    self.close_connection = True
                    return
                try:
                    self.send_response(answer.status)
                    headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body))}
                    for name, value in (headers | answer.headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:
                    self.close_connection = True  # who asked is gone

        return Handler


@contextmanager
def serving(script: Callable[[Body, int], Answer], models: Answer | None = None) -> Iterator[FakeServer]:
    """A server that runs inside."""
    server = FakeServer(script, models)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again soon, and has no key."""
    monkeypatch.setattr(server_rotation, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
