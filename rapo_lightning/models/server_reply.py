"""What came back from an OpenAI-compatible server, read without trusting it: an answer, or why there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

FailureKind = Literal["unreachable", "busy", "broken", "refused", "barred"]
"""What to do about a failure: `unreachable` (no server answers), `busy` (429) and `broken` (other 5xx, garbage) are tried
again; `refused` is the request's own fault; `barred` would happen to every request (key, model or address are wrong)."""
_GATEWAY = (502, 503, 504)
_AGAIN = (408, 409, 425)
_BARRED = (401, 403, 404, 405)
_LONGEST_REMARK = 200
NO_LOGPROBS = "no log-probabilities"


class GarbageError(Exception):
    """The body of a reply is not what the API promises."""


@dataclass(frozen=True)
class Failure:
    """Why a request gave no answer.

    Attributes:
        kind: What to do about it.
        remark: What happened, in a few words and without the key.
        wait: Seconds that the server asks to wait; None if it does not say.
    """

    kind: FailureKind
    remark: str
    wait: float | None = None


@dataclass(frozen=True)
class Reply:
    """A server's answer.

    Attributes:
        text: The answer; empty if the request failed.
        remark: What the answer lacks.
        prompt_tokens: Tokens read; None where the server does not say.
        completion_tokens: Tokens written; None where the server does not say.
        likely: Per token of the answer, its text and the probabilities of the likeliest tokens in its place; None where the
            server gives none.
        failure: Why there is no answer; None if there is one.
    """

    text: str = ""
    remark: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    likely: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] | None = None
    failure: Failure | None = None


def read_reply(completion: Any, wants_logprobs: bool) -> Reply:
    """Reads the answer off what `openai` made of a body; it checks no types itself.

    Args:
        completion: The parsed body.
        wants_logprobs: Whether log-probabilities were asked for.

    Raises:
        GarbageError: If it is no chat completion.
    """
    try:
        choice = completion.choices[0]
        text, usage = choice.message.content, getattr(completion, "usage", None)
    except (AttributeError, TypeError, IndexError, KeyError) as error:
        raise GarbageError("a body that is no chat completion") from error
    if text is not None and not isinstance(text, str):
        raise GarbageError("an answer that is no text")
    likely = _likely(getattr(choice, "logprobs", None)) if wants_logprobs else None
    remarks = [f"no text, finish_reason {_short(str(getattr(choice, 'finish_reason', None)))}"] if text is None else []
    remarks += [NO_LOGPROBS] if wants_logprobs and likely is None else []
    return Reply(
        # JSON may hold halves of characters, which no file can.
        text=(text or "").encode("utf-8", "replace").decode(),
        remark="; ".join(remarks),
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
        likely=likely,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _likely(logprobs: Any) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...] | None:
    """The likeliest tokens in each place; None where there are none, or they are no numbers."""
    try:
        found = tuple(
            (str(place.token), tuple((str(top.token), math.exp(min(top.logprob, 0.0))) for top in place.top_logprobs))
            for place in logprobs.content
        )
    except (AttributeError, TypeError, ValueError):
        return None
    numbers = [value for _, tops in found for _, value in tops]
    return found if numbers and all(math.isfinite(value) for value in numbers) else None


def read_failure(error: Exception, key: str, timeout: float) -> Failure:
    """Sorts an error of `openai` or of `read_reply`.

    Args:
        error: The error.
        key: What must not be repeated.
        timeout: Seconds that were waited for an answer.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Failure("unreachable", f"no answer within {timeout:g} s")
    if isinstance(error, openai.APIStatusError) and error.status_code >= 400:
        return status_failure(error.status_code, error.response.headers, error.body, key)
    if isinstance(error, openai.APIConnectionError):
        return Failure("unreachable", "no connection, or one that was cut off")
    return Failure("broken", str(error) if isinstance(error, GarbageError) else "a body that is no JSON")


def status_failure(code: int, headers: Mapping[str, str], body: Any, key: str) -> Failure:
    """Sorts an HTTP status that is an error.

    Args:
        code: The status.
        headers: The reply's headers.
        body: Its parsed body, or its text.
        key: What must not be repeated.
    """
    if code in (401, 403):
        # Hosted servers repeat parts of the key here.
        return Failure("barred", f"HTTP {code}")
    said = _message(body)
    remark = f"HTTP {code}" + (f": {_short(said.replace(key, '***') if key else said)}" if said else "")
    if code == 429:
        return Failure("busy", remark, retry_after(headers.get("retry-after")))
    if code in _GATEWAY:
        return Failure("unreachable", remark, retry_after(headers.get("retry-after")))
    if code >= 500 or code in _AGAIN:
        return Failure("broken", remark)
    return Failure("barred" if code in _BARRED else "refused", remark)


def _message(body: Any) -> str:
    """What an error's body says: servers put it in `message`, `detail` or `error`, or send a page."""
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and body.get(name):
            return _message(body[name])
    return body if isinstance(body, str) else "" if body is None else str(body)


def _short(text: str) -> str:
    """A text on one line, with an end."""
    return " ".join(text.split())[:_LONGEST_REMARK].encode("utf-8", "replace").decode()


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number, or a date (RFC 9110, section 10.2.3); None without one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
