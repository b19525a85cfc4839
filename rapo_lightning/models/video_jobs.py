"""One video job of a server: created, polled, downloaded, forgotten there; plain HTTP, nothing that comes back is trusted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx

from .server_reply import Failure, status_failure

BodyFormat = Literal["form", "json"]
_WAITING = ("queued", "in_progress")
_FIRST_POLL, _LONGEST_POLL, _SLOWER = 1.0, 15.0, 1.3
"""Seconds between two looks at a job, each longer by that factor up to the longest (ours)."""
_LOOKS_FAILED = 5
"""Looks in a row that may fail before the job is given up (ours)."""


class JobError(Exception):
    """A job came to nothing."""

    def __init__(self, failure: Failure) -> None:
        """Takes why."""
        super().__init__(failure.remark)
        self.failure = failure


class VideoJobs:
    """The `/v1/videos` contract of one server (vLLM-Omni, SGLang-Diffusion)."""

    def __init__(self, url: str, key: str, timeout: float, body: BodyFormat) -> None:
        """Opens no connection yet.

        Args:
            url: Base URL.
            key: The key; empty sends none.
            timeout: Seconds without a byte after which a request has failed.
            body: How fields are sent.
        """
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)
        self.url, self._key, self._timeout, self._body = url, key, timeout, body

    def models(self, timeout: float) -> list[str]:
        """Names of the models that the server says it serves; empty where it does not say.

        Raises:
            JobError: If it is not there, or refuses the key.
        """
        try:
            found = self._parsed(self._ask("GET", "/models", timeout=timeout))
            return [str(item["id"]) for item in found["data"]]
        except JobError as error:
            if error.failure.kind == "unreachable" or error.failure.remark in ("HTTP 401", "HTTP 403"):
                raise
        except (KeyError, TypeError):
            pass
        return []

    def create(self, fields: Mapping[str, Any]) -> str:
        """Starts a job.

        Returns:
            Its name there.

        Raises:
            JobError: If it was not started.
        """
        if self._body == "json":
            reply = self._ask("POST", "/videos", json=dict(fields))
        else:
            # A field without a file name, as a browser sends it: vLLM-Omni reads nothing but forms.
            parts = {name: (None, _as_text(value)) for name, value in fields.items()}
            reply = self._ask("POST", "/videos", files=parts)
        name = self._parsed(reply).get("id")
        if not isinstance(name, str) or not name or "/" in name:
            raise JobError(Failure("broken", "a job without a name"))
        return name

    def wait(self, name: str, limit: float, pause: Callable[[float], bool]) -> None:
        """Looks at a job until it is done.

        Args:
            name: The job.
            limit: Seconds that it may take from now on.
            pause: Waits so many seconds; true if it was asked to stop.

        Raises:
            JobError: If it failed, was lost, or took too long.
        """
        end, gap, failed = time.monotonic() + limit, _FIRST_POLL, 0
        while True:
            try:
                job, failed = self._parsed(self._ask("GET", f"/videos/{name}")), 0
                status = job.get("status")
                if status == "completed":
                    return
                if status not in _WAITING:
                    said = job.get("error") or {}
                    why = str(said.get("message", said)) if isinstance(said, dict) and said else str(said or "")
                    remark = " ".join(f"a job that is {status!r}: {why}".split())[:200].rstrip(" :")
                    raise JobError(Failure("broken", remark.replace(self._key, "***") if self._key else remark))
                wanted = gap
            except JobError as error:
                failed += 1
                lost = error.failure.kind not in ("unreachable", "busy") or failed > _LOOKS_FAILED
                if lost:
                    raise JobError(_of_the_job(error.failure)) from error
                wanted = max(gap, error.failure.wait or 0.0)
            if time.monotonic() + wanted > end:
                raise JobError(Failure("broken", f"no video within {limit:g} s"))
            if pause(wanted):
                raise JobError(Failure("broken", "it was asked to stop"))
            gap = min(gap * _SLOWER, _LONGEST_POLL)

    def download(self, name: str, target: Path) -> None:
        """Writes a job's video to a file.

        Raises:
            JobError: If it does not come, or not whole.
        """
        try:
            path = f"{self.url}/videos/{name}/content"
            with self._client.stream("GET", path, follow_redirects=True) as reply, target.open("wb") as file:
                if reply.status_code >= 400:
                    reply.read()
                    raise JobError(_of_the_job(self._failure(reply)))
                for part in reply.iter_bytes():
                    file.write(part)
        except httpx.HTTPError as error:
            raise JobError(self._broken(error)) from error

    def forget(self, name: str) -> None:
        """Asks the server to remove a job and its video; one that does not is no fault."""
        try:
            self._ask("DELETE", f"/videos/{name}")
        except JobError:
            return

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            reply = self._client.request(method, self.url + path, **more)
        except (httpx.HTTPError, UnicodeError) as error:
            raise JobError(self._broken(error)) from error
        if reply.status_code >= 400:
            raise JobError(self._failure(reply))
        return reply

    def _failure(self, reply: httpx.Response) -> Failure:
        try:
            body = reply.json()
        except ValueError:
            body = reply.text
        return status_failure(reply.status_code, reply.headers, body, self._key)

    def _broken(self, error: Exception) -> Failure:
        if isinstance(error, httpx.TimeoutException):
            return Failure("unreachable", f"no answer within {self._timeout:g} s")
        return Failure("unreachable", "no connection, or one that was cut off")

    @staticmethod
    def _parsed(reply: httpx.Response) -> dict[str, Any]:
        try:
            body = reply.json()
        except ValueError as error:
            raise JobError(Failure("broken", "a body that is no JSON")) from error
        if not isinstance(body, dict):
            raise JobError(Failure("broken", "a body that is no job"))
        return body


def _of_the_job(failure: Failure) -> Failure:
    """A failure of a job that was there: where it is not any more, only the job is lost, not the server."""
    return Failure("broken", failure.remark) if failure.kind in ("refused", "barred") else failure


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
