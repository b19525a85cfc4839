"""Asks OpenAI-compatible servers: several requests at a time, in turn over several servers, again where that can help."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import RunError, UserError
from .server_reply import Failure, GarbageError, Reply, read_failure, read_reply
from .server_rotation import Rotation, Server, all_or_stop, barred_sentence, read_key
from .usage import Call, note

Request = dict[str, Any]
_CHECK_TIMEOUT = 10.0
_NO_KEY = "none"
"""The client of `openai` wants a key even where the server does not."""


class ServerClient:
    """Asks one or several servers of the same model."""

    def __init__(
        self, urls: Sequence[str], model: str, key_variable: str, concurrency: int, timeout: float, retries: int
    ) -> None:
        """Opens no connection yet.

        Args:
            urls: Base URLs.
            model: The model's name on all of them.
            key_variable: Environment variable with the key.
            concurrency: Most requests at a time, over all servers.
            timeout: Seconds without a byte after which a request has failed.
            retries: Further tries of a request that failed.

        Raises:
            UserError: If `openai` is missing or the key is no header.
        """
        try:
            import openai
        except ImportError as error:
            raise UserError(
                "A model behind a server needs the package `openai`. Got an environment without it; run "
                "`pip install 'rapo-lightning[server]'`."
            ) from error
        self.model, self.key_variable, self.concurrency = model, key_variable, concurrency
        self.timeout, self.retries = timeout, retries
        key = read_key(key_variable) or _NO_KEY
        options: dict[str, Any] = {"api_key": key, "timeout": timeout, "max_retries": 0}
        self._rotation = Rotation([Server(url, openai.OpenAI(base_url=url, **options)) for url in urls])
        self._answered = False

    @property
    def _key(self) -> str:
        """The key, which the client of `openai` keeps; empty without one."""
        key: str = self._rotation.servers[0].client.api_key
        return "" if key == _NO_KEY else key

    def check(self) -> None:
        """Asks every server once whether it is there.

        Raises:
            UserError: If none is, or one refuses the key.
        """
        absent = [(server, self._absence(server)) for server in self._rotation.servers]
        if all(why for _, why in absent):
            raise UserError(
                f"A server for {self.model} must answer at {self._rotation.places}. Got {absent[0][1]}; start it, or correct `url`."
            )
        for server, why in absent:
            if why:
                self._rotation.leave_out(server, why)

    def _absence(self, server: Server) -> str:
        """Why a server cannot be asked; empty if it can."""
        try:
            server.client.with_options(timeout=min(self.timeout, _CHECK_TIMEOUT)).models.list()
        except Exception as error:
            failure = read_failure(error, self._key, min(self.timeout, _CHECK_TIMEOUT))
            if failure.kind == "unreachable":
                return failure.remark
            if failure.remark in ("HTTP 401", "HTTP 403"):
                raise UserError(self._barred(server, failure)) from None
        # Whatever else came: somebody is there, and not every server lists its models.
        return ""

    def ask(self, requests: Sequence[Request], items: Sequence[int], remark: str = "") -> list[Reply]:
        """Sends requests and waits for all answers; each try is noted as a call.

        Args:
            requests: Arguments of `chat.completions.create`, without the model.
            items: For each the place in the batch that it is made for.
            remark: What the calls that succeed are noted with.

        Returns:
            The replies; those of requests that failed for good say why.

        Raises:
            RunError: If every request would fail: no server answers any more, none has room, the key or the model is wrong,
                or the very first requests are refused.
        """
        pairs = zip(requests, items, strict=True)
        found = all_or_stop([partial(self._answer, *pair, remark) for pair in pairs], self.concurrency)
        for _, calls in found:
            note(calls)
        replies = [reply for reply, _ in found]
        self._check_first([reply.failure for reply in replies], any("logprobs" in request for request in requests))
        return replies

    def _check_first(self, failures: Sequence[Failure | None], can_do_without: bool) -> None:
        """Raises if nothing was ever answered and all was refused: that is no single request's fault."""
        refused = [failure for failure in failures if failure is not None]
        self._answered |= len(refused) < len(failures)
        if refused and not self._answered and not can_do_without and all(item.kind == "refused" for item in refused):
            raise RunError(
                f"The first requests to {self.model} at {self._rotation.places} must be understood. Got {refused[0].remark}; correct "
                "`model`, or leave out what it refuses with `fields`, such as `{top_p: null}`."
            )

    def _answer(self, request: Request, item: int, remark: str, stop: threading.Event) -> tuple[Reply, list[Call]]:
        """The answer to one request, and all tries."""
        calls: list[Call] = []
        attempt = 0
        while True:
            server, begin = self._rotation.next(), time.monotonic()
            reply = self._send(server, request)
            seconds = time.monotonic() - begin
            if isinstance(reply, Reply):
                server.answers = True
                said = "; ".join(text for text in (remark, reply.remark) if text)
                calls.append(Call(item, reply.prompt_tokens, reply.completion_tokens, seconds, remark=said))
                return reply, calls
            calls.append(Call(item, None, None, seconds, failed=True, remark=reply.remark))
            if reply.kind == "barred":
                raise RunError(self._barred(server, reply))
            if (
                reply.kind == "refused"
                or attempt == self.retries
                or stop.wait(self._rotation.pause(server, reply, attempt))
            ):
                self._check_still_there(reply, stop)
                return Reply(failure=reply), calls
            attempt += 1

    def _send(self, server: Server, request: Request) -> Reply | Failure:
        """One try."""
        from openai import OpenAIError

        try:
            completion = server.client.chat.completions.create(model=self.model, **request)
            return read_reply(completion, "logprobs" in request)
        except (OpenAIError, GarbageError, ValueError, RecursionError) as error:
            return read_failure(error, self._key, self.timeout)

    def _check_still_there(self, failure: Failure, stop: threading.Event) -> None:
        """Raises if a failure is not the request's own, so that the run stops and can go on later."""
        if stop.is_set():
            return
        if failure.kind == "busy":
            raise RunError(
                f"{self.model} at {self._rotation.places} must have room. Got {failure.remark} after {self.retries + 1} tries; "
                "what was recorded is safe: lower `concurrency`, raise `retries`, or look at your quota, and run the same "
                "command again to go on."
            )
        if failure.kind == "unreachable" and all(self._absence(server) for server in self._rotation.servers):
            raise RunError(
                f"{self.model} at {self._rotation.places} must go on answering. Got {failure.remark}; what was recorded is safe: "
                "start the server again, and run the same command again to go on."
            )

    def _barred(self, server: Server, failure: Failure) -> str:
        return barred_sentence(server.url, self.model, failure, self.key_variable, self._key)
