"""How an answer that was begun goes on, by a chat server: how that is asked, and read off log-probabilities or the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..prompting.templates import template
from .server_reply import Reply

Turns = list[dict[str, Any]]


def begun(messages: Sequence[dict[str, Any]], opening: str, choices: Sequence[str], continues: bool) -> Turns:
    """A conversation up to where a choice is to come.

    Args:
        messages: Turns up to the user's last.
        opening: What the answer begins with; may be empty.
        choices: How it may go on.
        continues: Whether the server goes on with the assistant's last turn; if not, one more turn asks for the choice.
    """
    # Without its last space: tokenizers join it to what follows, and some servers refuse it.
    said = opening.rstrip()
    turns: Turns = [*messages, {"role": "assistant", "content": said}] if said else list(messages)
    if continues and said:
        return turns
    asked = template("models", "choice").format(choices=", ".join(choices))
    return [*turns, {"role": "user", "content": asked}] if said else _with_text(turns, asked)


def _with_text(messages: Turns, text: str) -> Turns:
    """The conversation with a text at the end of its last turn."""
    content = messages[-1]["content"]
    longer = f"{content}\n{text}" if isinstance(content, str) else [*content, {"type": "text", "text": text}]
    return [*messages[:-1], {**messages[-1], "content": longer}]


def refuses_logprobs(reply: Reply) -> bool:
    """Whether a request was refused for asking for log-probabilities."""
    return reply.failure is not None and reply.failure.kind == "refused" and "logprob" in reply.failure.remark


def choice_probabilities(reply: Reply, choices: Sequence[str]) -> list[float]:
    """Probabilities that an answer is each of the choices.

    A token counts for the one choice that begins with it, or that it begins with; where the answer opens with white space, what
    would follow it counts as well.

    Args:
        reply: The answer.
        choices: The choices.
    """
    found = [0.0] * len(choices)
    if reply.likely is None:
        named = _named(reply.text, choices)
        return [float(choice == named) for choice in choices]
    carried = 1.0
    for token, tops in reply.likely:
        for text, probability in tops:
            matches = [i for i, choice in enumerate(choices) if _stands_for(text.strip(), choice)]
            if len(matches) == 1:
                found[matches[0]] += carried * probability
        if token.strip():
            break
        carried *= dict(tops).get(token, 0.0)
    return found


def _stands_for(token: str, choice: str) -> bool:
    return bool(token) and (choice.startswith(token) or re.match(rf"{re.escape(choice)}\W", token) is not None)


def _named(text: str, choices: Sequence[str]) -> str | None:
    """The choice that a text begins with as a whole word, after marks such as `**`."""
    options = "|".join(re.escape(choice) for choice in sorted(choices, key=len, reverse=True))
    match = re.match(rf"\W*({options})(?!\w|[.,]\d)", text)
    return match.group(1) if match else None
