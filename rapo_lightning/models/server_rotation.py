"""Several servers of one model, asked in turn: who is next, who is left out for a while, how long to wait before trying again."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from ..console import say
from ..errors import UserError
from .server_reply import Failure

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second try, doubled with each further one up to the longest (ours)."""
_LONGEST_RETRY_AFTER = 120.0
"""Most seconds that a server's `Retry-After` is heeded (ours)."""
_LEFT_OUT = 30.0
"""Seconds that a server which does not answer is left out while there are others (ours)."""


@dataclass
class Server:
    """A server.

    Attributes:
        url: Its base URL.
        client: What asks it.
        out_until: Monotonic time until which others are asked first.
        answers: Whether it has answered when it was last asked.
    """

    url: str
    client: Any = field(repr=False)
    out_until: float = 0.0
    answers: bool = True


class Rotation:
    """Servers of one model; may be used by several threads."""

    def __init__(self, servers: Sequence[Server]) -> None:
        """Takes at least one server."""
        self.servers = list(servers)
        self._lock, self._turn, self._random = threading.Lock(), 0, Random(0)

    @property
    def places(self) -> str:
        """Their URLs, for people."""
        return ", ".join(server.url for server in self.servers)

    def next(self) -> Server:
        """The next server in turn that is not left out; if all are, the one that comes back first."""
        with self._lock:
            order = self.servers[self._turn :] + self.servers[: self._turn]
            now = time.monotonic()
            free = [item for item in order if item.out_until <= now]
            chosen = free[0] if free else min(order, key=lambda item: item.out_until)
            self._turn = (self.servers.index(chosen) + 1) % len(self.servers)
            return chosen

    def pause(self, server: Server, failure: Failure, attempt: int) -> float:
        """Seconds before the next try: none where another server is free, else what the server asks for or longer each time.

        Up to a quarter more is left to chance, so that requests which failed together do not come back together.

        Args:
            server: Who failed.
            failure: How.
            attempt: Number of the try that failed, from 0.
        """
        with self._lock:
            jitter = self._random.random() / 4
            doubled = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
            asked = doubled if failure.wait is None else min(failure.wait, _LONGEST_RETRY_AFTER)
            pause = asked * (1 + jitter)
            server.out_until = max(server.out_until, time.monotonic() + pause)
        if failure.kind == "unreachable" and len(self.servers) > 1:
            self.leave_out(server, failure.remark)
        return 0.0 if any(other.out_until <= time.monotonic() for other in self.servers) else pause

    def leave_out(self, server: Server, why: str) -> None:
        """Asks the others first for a while, and says so once."""
        with self._lock:
            news, server.answers = server.answers, False
            server.out_until = time.monotonic() + _LEFT_OUT
        if news:
            say(f"{server.url} is left out for {_LEFT_OUT:g} s: {why}", error=True)


def read_key(variable: str) -> str:
    """The key in an environment variable; empty without one.

    Raises:
        UserError: If it can be no header.
    """
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise UserError(
            f"The key in {variable} must be printable ASCII without spaces. Got other characters; set it anew."
        )
    return key


def barred_sentence(url: str, model: str, failure: Failure, variable: str, key: str) -> str:
    """What to do about a failure that every request would meet.

    Args:
        url: The server.
        model: The model that it should serve.
        failure: The failure.
        variable: Environment variable of the key.
        key: The key, which is not repeated; empty without one.
    """
    if failure.remark in ("HTTP 401", "HTTP 403"):
        given = f"the key in {variable}" if key else f"no key in {variable}"
        return f"{url} must accept the key. Got {failure.remark} with {given}; set that variable to a valid key."
    return (
        f"{url} must serve the model {model}. Got {failure.remark}; correct `model`, or `url`, which often ends in /v1."
    )


def all_or_stop(tasks: Sequence[Callable[[threading.Event], T]], most: int) -> list[T]:
    """What tasks give, some of them at a time; where one raises, the others are told to stop and are not waited for.

    Args:
        tasks: Each takes the event that tells it to stop.
        most: How many at a time.
    """
    stop, done = threading.Event(), False
    pool = ThreadPoolExecutor(most, thread_name_prefix="server")
    try:
        futures = [pool.submit(task, stop) for task in tasks]
        wait(futures, return_when=FIRST_EXCEPTION)
        found = [future.result() for future in futures if future.done()]
        done = True
    finally:
        stop.set()
        pool.shutdown(wait=done, cancel_futures=True)
    return found
