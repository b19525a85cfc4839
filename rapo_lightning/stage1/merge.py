"""Word augmentation: the language model merges modifiers into the user's prompt, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..data.ids import derived_seed
from ..models.base import LanguageModel
from ..prompting.chat import Messages, Sampling
from ..prompting.templates import table, template
from ..prompting.text import one_line, stem, telling_stems, words

_SPARE_WORDS = 8
"""How much longer than prompt and modifier together a merge may be; a longer answer has added things of its own."""


class Step(NamedTuple):
    """One merge.

    Attributes:
        text: The prompt with the modifier in it.
        kind: Whether it is the model's merge, or the join that took its place.
    """

    text: str
    kind: Literal["model", "join"]


def join(prompt: str, modifier: str) -> str:
    """A prompt with a modifier put after a comma, the merge that cannot fail."""
    return f"{prompt.rstrip(' .,;?!')}, {modifier}"


def keeps_both(answer: str, prompt: str, modifier: str) -> bool:
    """Whether a merge kept every telling word of the prompt, half of the modifier's, and added little.

    Words may be inflected otherwise: "a man sits" is kept in "a man sitting on a bench".
    """
    found, detail = set(map(stem, words(answer))), telling_stems(modifier)
    return (
        telling_stems(prompt) <= found
        and 2 * len(detail & found) >= len(detail)
        and len(answer.split()) <= len(prompt.split()) + len(modifier.split()) + _SPARE_WORDS
    )


def merge_messages(prompt: str, modifier: str) -> Messages:
    """The conversation that asks for one merge."""
    messages = [{"role": "system", "content": template("stage1", "merge_system")}]
    for body, detail, merged in table("stage1", "merge_examples"):
        messages.append(
            {"role": "user", "content": template("stage1", "merge_user").format(prompt=body, modifier=detail)}
        )
        messages.append({"role": "assistant", "content": merged})
    return [
        *messages,
        {"role": "user", "content": template("stage1", "merge_user").format(prompt=prompt, modifier=modifier)},
    ]


def merge(
    prompts: Sequence[str], modifiers: Sequence[Sequence[str]], model: LanguageModel, sampling: Sampling
) -> list[list[Step]]:
    """Merges modifiers into prompts, step i of all prompts together.

    A merge that loses words of the prompt, which small models are prone to, is replaced by `join`.

    Args:
        prompts: The users' prompts.
        modifiers: For each prompt its modifiers, in the order of merging.
        model: The language model.
        sampling: How it answers.

    Returns:
        For each prompt its steps; the last one's text is the augmented prompt.
    """
    steps: list[list[Step]] = [[] for _ in prompts]
    current = list(prompts)
    for step in range(max((len(items) for items in modifiers), default=0)):
        due = [index for index, items in enumerate(modifiers) if len(items) > step]
        conversations = [merge_messages(current[index], modifiers[index][step]) for index in due]
        seeds = [derived_seed("merge", prompts[index], step) for index in due]
        for index, (answer,) in zip(due, model.complete(conversations, seeds, sampling), strict=True):
            detail, text = modifiers[index][step], one_line(answer)
            kept = keeps_both(text, current[index], detail)
            steps[index].append(Step(text, "model") if kept else Step(join(current[index], detail), "join"))
            current[index] = steps[index][-1].text
    return steps
