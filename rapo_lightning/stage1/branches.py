"""The two rewriting branches: refactoring by a fine-tuned rewriter, and rewriting by instruction."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.ids import derived_seed
from ..models import ModelPool
from ..prompting.examples import ExamplePool
from ..prompting.templates import template
from ..prompting.text import content_words, one_line, shorten, words
from ..recipe import Stage1

CARRIED = " Also: "
"""What stands between a rewriter's caption and the request carried over."""


def unknown_words(request: str, caption: str, vocabulary: frozenset[str]) -> list[str]:
    """Content words of a request that a rewriter was never trained on and that its caption lacks.

    Args:
        request: The user's prompt.
        caption: What the rewriter made of it.
        vocabulary: Words of the rewriter's training data; empty if they are not known, and then nothing is unknown.
    """
    said = set(words(caption))
    return [word for word in content_words(request) if vocabulary and word not in vocabulary and word not in said]


def carry_over(caption: str, request: str) -> str:
    """A caption with the request put at its end, without the words of asking before and after it."""
    spoken = request.split()
    telling = [index for index, word in enumerate(spoken) if content_words(word)]
    if not telling:
        return caption
    kept = " ".join(spoken[telling[0] : telling[-1] + 1]).rstrip(" .,;?!")
    return f"{caption}{CARRIED}{kept}."


def instruct(
    requests: Sequence[str], augmented: Sequence[str], stage1: Stage1, models: ModelPool, pool: ExamplePool
) -> list[str]:
    """Rewrites by instruction, without fine-tuning.

    Args:
        requests: The users' prompts, by which examples are found and seeds derived.
        augmented: The augmented prompts.
        stage1: Settings.
        models: Lends the frozen language model, and the embedder that finds examples.
        pool: Example rewrites.

    Returns:
        One prompt each, at most `stage1.instruct_words` long; empty where the model gave nothing.
    """
    system = template("stage1", "instruct_system").format(limit=stage1.instruct_words)
    shown = pool.nearest(list(requests), stage1.examples_per_prompt, lambda texts: models.embedder.encode(texts))
    conversations = []
    for text, examples in zip(augmented, shown, strict=True):
        messages = [{"role": "system", "content": system}]
        for example in examples:
            messages.append({"role": "user", "content": example.prompt})
            messages.append({"role": "assistant", "content": example.caption})
        conversations.append([*messages, {"role": "user", "content": text}])
    seeds = [derived_seed("instruct", request) for request in requests]
    answers = models.language.complete(conversations, seeds, stage1.instruct)
    return [shorten(one_line(answer), stage1.instruct_words) for (answer,) in answers]
