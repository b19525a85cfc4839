"""How likely a model goes on with each of a few choices: a graded answer without reading it off prose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
