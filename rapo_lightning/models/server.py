"""Models behind an OpenAI-compatible server (vLLM, SGLang, Ollama, hosted): what they share, and the chat model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.ids import derived_seed
from ..errors import UserError
from ..prompting.chat import Messages, Sampling
from .server_choices import begun, choice_probabilities, refuses_logprobs
from .server_client import Request, ServerClient
from .server_reply import NO_LOGPROBS, Reply

_RESERVED = ("model", "messages", "n", "stream", "logprobs", "top_logprobs")
_TOP_LOGPROBS = 20
"""Most that the API gives."""
_CHOICE_TOKENS = 4
"""Room for a space before the choice, and for a choice of several tokens (ours)."""
_KEY_VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*_)?API_KEY")


class ServerModel:
    """What both kinds of models behind a server share."""

    remote = True
    """Nothing of it is on the device, so nothing has to make room for it."""

    def __init__(
        self,
        url: str | list[str],
        model: str,
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        fields: dict[str, Any] | None = None,
        continues: bool = False,
    ) -> None:
        """Checks the arguments; the server is asked whether it is there when the model is loaded.

        Args:
            url: Base URL of the server, such as http://localhost:8000/v1, or several that serve the same model: they are asked
                in turn, and one that does not answer is left out for a while.
            model: Name of the model there.
            key_variable: Environment variable with the key; a server of your own may need none.
            concurrency: Most requests at a time.
            timeout: Seconds without a byte of an answer after which a request has failed.
            retries: Further tries of a request that failed for a reason that can pass.
            fields: Further fields of every request, such as `{chat_template_kwargs: {enable_thinking: false}}`; null leaves
                a field out that the server refuses.
            continues: Whether the server goes on with an answer that was begun (vLLM and SGLang do:
                `continue_final_message`); if not, the model is asked in one more turn to finish it.

        Raises:
            UserError: If an argument is out of range or of another form.
        """
        self.urls = checked_urls([url] if isinstance(url, str) else url)
        self.name, self.key_variable = model, checked_key_variable(key_variable)
        self.concurrency, self.timeout, self.retries, self.fields = concurrency, timeout, retries, fields or {}
        self.continues, self._logprobs = continues, True
        if concurrency < 1 or timeout <= 0 or retries < 0:
            raise UserError(
                "A server needs concurrency >= 1, timeout > 0 and retries >= 0. "
                f"Got concurrency={concurrency}, timeout={timeout}, retries={retries}."
            )
        reserved = [name for name in self.fields if name in _RESERVED]
        if reserved:
            raise UserError(
                f"`fields` may set anything but {', '.join(_RESERVED)}. Got {', '.join(reserved)}; leave it out."
            )
        self._client: ServerClient | None = None

    @property
    def client(self) -> ServerClient:
        """Who asks the server; it is asked whether it is there when this is first used."""
        if self._client is None:
            client = ServerClient(self.urls, self.name, self.key_variable, self.concurrency, self.timeout, self.retries)
            client.check()
            self._client = client
        return self._client

    def load(self) -> None:
        """Asks the servers whether they are there, once.

        Raises:
            UserError: If none is, or one refuses the key.
        """
        _ = self.client

    def to(self, device: torch.device) -> None:
        """As `load`: nothing is on a device."""
        self.load()

    def request(self, messages: Sequence[dict[str, Any]], max_tokens: int, **more: Any) -> Request:
        """A request with this model's `fields`."""
        standard = {"messages": list(messages), "max_tokens": max_tokens, **more}
        left = {name: value for name, value in standard.items() if name not in self.fields}
        return {**left, "extra_body": {name: value for name, value in self.fields.items() if value is not None}}

    def pick(
        self, conversations: Sequence[Sequence[dict[str, Any]]], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """Probabilities of how answers go on, `(conversations, choices)`.

        Where the server gives no log-probabilities, the choice that the answer names has probability 1, and the call is noted
        as having none. A row is all zeros where the answer names none, or the request failed for good.

        Args:
            conversations: Turns up to the user's last.
            openings: What each answer begins with.
            choices: How it may go on.
        """
        messages = [
            begun(turns, opening, choices, self.continues)
            for turns, opening in zip(conversations, openings, strict=True)
        ]
        replies: dict[int, Reply] = {}
        # One alone first: a server that refuses to give log-probabilities is not asked for them again.
        for part in (range(len(messages))[:1], range(len(messages))[1:]):
            replies |= self._ask_choices(messages, part)
        rows = [choice_probabilities(replies[index], choices) for index in range(len(messages))]
        return np.array(rows, dtype=np.float64).reshape(len(messages), len(choices))

    def _ask_choices(self, messages: Sequence[list[dict[str, Any]]], part: Sequence[int]) -> dict[int, Reply]:
        """Replies by place, with log-probabilities where they are given."""
        replies: dict[int, Reply] = {}
        more: dict[str, Any] = {"temperature": 0.0}
        if self._logprobs:
            asked = [self._choice_request(messages[i], logprobs=True, top_logprobs=_TOP_LOGPROBS, **more) for i in part]
            replies = dict(zip(part, self.client.ask(asked, part), strict=True))
        refused = [i for i in part if i not in replies or refuses_logprobs(replies[i])]
        if refused:
            self._logprobs = False
            plain = [self._choice_request(messages[i], **more) for i in refused]
            replies |= dict(zip(refused, self.client.ask(plain, refused, NO_LOGPROBS), strict=True))
        return replies

    def _choice_request(self, messages: Sequence[dict[str, Any]], **more: Any) -> Request:
        request = self.request(messages, _CHOICE_TOKENS, **more)
        if self.continues and messages[-1]["role"] == "assistant":
            request["extra_body"] |= {"continue_final_message": True, "add_generation_prompt": False}
        return request


class ServerLanguageModel(ServerModel):
    """A chat model behind a server.

    Each answer is a request of its own with its own seed. Servers keep to a seed as well as they can, not exactly, and the API
    has no `top_k`: name it in `fields` where the server knows it.
    """

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """`count` answers per conversation, see `base.LanguageModel`; empty where the request failed for good."""
        requests = [
            self.request(
                turns, sampling.max_new_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
                seed=derived_seed(seed, number),
            )
            for turns, seed in zip(conversations, seeds, strict=True)
            for number in range(count)
        ]  # fmt: skip
        replies = self.client.ask(requests, [index // count for index in range(len(requests))])
        texts = [reply.text.strip() for reply in replies]
        return [texts[begin : begin + count] for begin in range(0, len(texts), count)]

    def choose(
        self, conversations: Sequence[Messages], openings: Sequence[str], choices: Sequence[str]
    ) -> NDArray[np.float64]:
        """Probabilities of how answers go on, as `VisionLanguageModel.choose`; see `ServerModel.pick`."""
        return self.pick(conversations, openings, choices)


def checked_urls(urls: Sequence[str]) -> list[str]:
    """The URLs without a slash at their end.

    Raises:
        UserError: If there is none, or one is no plain http URL; what might be a secret is not repeated.
    """
    if not urls:
        raise UserError("`url` must name a server or a list of them. Got none; for example http://localhost:8000/v1.")
    for url in urls:
        try:
            parts = urlsplit(url)
            plain = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
            # Reading a port that is none is an error.
            plain, host = plain and not parts.query and not parts.fragment and parts.port != 0, parts.hostname
        except ValueError:
            plain, host = False, None
        if not plain:
            raise UserError(
                "`url` must be like http://host:8000/v1, without user, password or query: keys come from the environment. "
                f"Got another form{f' for the host {host}' if host else ''}; correct it."
            )
    return [url.rstrip("/") for url in urls]


def checked_key_variable(name: str) -> str:
    """The name of the key's variable.

    Raises:
        UserError: If it is no such name; it may be the key itself, and is not repeated.
    """
    if not _KEY_VARIABLE.fullmatch(name):
        raise UserError(
            "`key_variable` must be the name of an environment variable in capitals that ends in API_KEY: a recipe may ask for "
            "no other. Got another form; put the key into such a variable and name that."
        )
    return name
