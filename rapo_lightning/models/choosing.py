"""How likely a model goes on with each of a few choices: a graded answer without reading it off prose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LogitsProcessor

from ..errors import UserError


def first_tokens(tokenizer: Any, name: str, opening: str, choices: Sequence[str]) -> tuple[str, list[int]]:
    """The opening up to where the choices part, and the token by which each goes on: some tokenizers join a space.

    Args:
        tokenizer: A tokenizer of transformers.
        name: The model's name, for the error.
        opening: What the answer begins with.
        choices: How it may go on.

    Raises:
        UserError: If two choices begin with the same token.
    """
    word = opening.split(" ")[-2] + " " if opening.endswith(" ") and opening.strip() else ""
    ids = [tokenizer(word + choice, add_special_tokens=False)["input_ids"] for choice in choices]
    shared = next((place for place, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1), len(ids[0]))
    firsts = [number[shared] if shared < len(number) else -1 for number in ids]
    if len(set(firsts)) < len(choices) or -1 in firsts:
        raise UserError(
            f"The choices must differ in their first token. Got {list(choices)} for the tokenizer of {name}."
        )
    return opening[: len(opening) - len(word)] + tokenizer.decode(ids[0][:shared]), firsts


def likelihoods(logits: Tensor, tokens: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Probabilities of some tokens among all.

    Args:
        logits: Those of the next token, `(rows, vocabulary)`.
        tokens: The tokens of each row, equally many.

    Returns:
        Shape `(rows, tokens)`; a row need not add up to 1.
    """
    chosen = torch.tensor(tokens, device=logits.device)
    return np.asarray(logits.float().softmax(-1).gather(1, chosen).double().cpu().numpy())


class Watch(LogitsProcessor):
    """Changes nothing, and remembers of every step of a generation how likely some tokens were to come next.

    The last of the processors sees what is chosen from; greedy decoding without penalties has no other, so these are the
    probabilities of a pass over what was written until then.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        """Remembers the tokens to look at."""
        self.tokens = list(tokens)
        self.seen: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they came, `(rows, vocabulary)`."""
        self.seen.append(scores.float().softmax(-1)[:, self.tokens])
        return scores

    def at(self, row: int, step: int) -> NDArray[np.float64] | None:
        """Probabilities of the tokens to be a row's `step`-th, shape `(tokens,)`; None where the generation ended before."""
        return np.asarray(self.seen[step][row].double().cpu().numpy()) if step < len(self.seen) else None


def written_at(tokenizer: Any, ids: Sequence[int], opening: str) -> int | None:
    """How many of an answer's tokens spell an opening; None where it begins otherwise, or holds half a letter.

    Args:
        tokenizer: A tokenizer of transformers.
        ids: What was generated.
        opening: What the answer may begin with, control tokens aside.
    """
    if "\ufffd" in opening:
        return None
    for step in range(len(ids) + 1):
        said = tokenizer.decode(ids[:step], skip_special_tokens=True)
        if said == opening:
            return step
        if len(said) > len(opening):
            return None
    return None
