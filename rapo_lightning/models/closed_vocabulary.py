"""Answers in the words of a closed vocabulary alone, for any tokenizer.

A video model breaks at words that its captions do not have, and a refiner keeps some of those that it has never read. Tokens are
looked at as text: what is not a letter ends a word and is free, and each run of letters must be a word of the vocabulary, whatever
its case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from ..errors import UserError
from ..prompting.text import letter_runs

Node = dict[str, Any]
_END, _TOKENS = "end", "tokens"
"""Keys of a node beside its letters, which are single characters."""


class ClosedVocabulary:
    """Which tokens may follow, by how far a word has come."""

    def __init__(self, words: Iterable[str], tokenizer: Any) -> None:
        """Reads all tokens as text, which takes about a second.

        Args:
            words: The vocabulary.
            tokenizer: The tokenizer.

        Raises:
            UserError: If there is no word.
        """
        runs = {run for word in words for run in letter_runs(word)}
        if not runs:
            raise UserError(
                "A closed vocabulary needs words. Got none; train with `stage3.closed_vocabulary: 0`, or more pairs."
            )
        self._words, self.size = _tree(runs), len(tokenizer)
        self._tokens: Node = {}
        self._stops = sorted({int(token) for token in _ids(tokenizer.eos_token_id)} | _ends(tokenizer))
        self._texts = _token_texts(tokenizer)
        special = set(tokenizer.all_special_ids)
        for token, text in enumerate(self._texts):
            if text and "\ufffd" not in text and token not in special:
                node: Node = self._tokens
                for letter in text:
                    node = node.setdefault(letter, {})
                node.setdefault(_TOKENS, []).append(token)
        self._masks: dict[int, Tensor] = {}

    @property
    def start(self) -> Node:
        """Where no word has begun."""
        return self._words

    def after(self, state: Node, token: int) -> Node:
        """How far a word has come after a token that was allowed."""
        for letter in self._texts[token] if token < len(self._texts) else "":
            state = state.get(letter.lower(), self._words) if letter.isalpha() else self._words
        return state

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return token in self._stops

    def allowed(self, state: Node) -> Tensor:
        """Whether each token may follow, `(tokens,)`."""
        found = self._masks.get(id(state))
        if found is None:
            tokens: list[int] = []
            _walk(self._tokens, state, self._words, tokens)
            if state is self._words or _END in state:
                tokens += self._stops
            found = self._masks[id(state)] = torch.zeros(self.size, dtype=torch.bool)
            found[torch.tensor(tokens, dtype=torch.long)] = True
        return found


def _tree(words: Iterable[str]) -> Node:
    root: Node = {}
    for word in words:
        node = root
        for letter in word:
            node = node.setdefault(letter, {})
        node[_END] = True
    return root


def _walk(tokens: Node, state: Node, root: Node, found: list[int]) -> None:
    """Adds all tokens whose text the vocabulary takes from a state on; both trees are walked together."""
    found += tokens.get(_TOKENS, ())
    for letter, further in tokens.items():
        if letter == _TOKENS:
            continue
        following = state.get(letter.lower())
        if not letter.isalpha():
            following = root if state is root or _END in state else None
        if following is not None:
            _walk(further, following, root, found)


def _token_texts(tokenizer: Any) -> list[str]:
    # Behind another token, since some tokenizers drop the space at the start of a text.
    anchor = tokenizer.encode("a", add_special_tokens=False)[-1]
    before = len(tokenizer.decode([anchor], clean_up_tokenization_spaces=False))
    pairs = [[anchor, token] for token in range(len(tokenizer))]
    return [text[before:] for text in tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)]


def _ids(value: int | list[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else value


def _ends(tokenizer: Any) -> set[int]:
    """Tokens that end a turn in the usual chat templates, as far as the tokenizer has them."""
    known = tokenizer.get_added_vocab()
    return {known[name] for name in ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>") if name in known}


class OnlyWords(LogitsProcessor):
    """Makes all other tokens impossible, row by row; made for one generation."""

    def __init__(self, vocabulary: ClosedVocabulary, prompt_length: int) -> None:
        """Remembers where the answers begin."""
        self.vocabulary, self.prompt_length = vocabulary, prompt_length
        self._states: list[Node | None] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `(rows, tokens)`, those of other words minus infinity; rows that have ended stay as they are."""
        if input_ids.shape[1] == self.prompt_length:
            self._states = [self.vocabulary.start] * len(input_ids)
        else:
            last = input_ids[:, -1].tolist()
            self._states = [self._after(state, token) for state, token in zip(self._states, last, strict=True)]
        kinds = {id(state): state for state in self._states}
        places = {key: number for number, key in enumerate(kinds)}
        free = torch.ones(scores.shape[-1], dtype=torch.bool)
        masks = torch.stack(
            [free if state is None else self._wide(state, scores.shape[-1]) for state in kinds.values()]
        )
        rows = torch.tensor([places[id(state)] for state in self._states], device=scores.device)
        # The kinds of rows are few: they travel, and each row takes its own there.
        return scores.masked_fill(~masks.to(scores.device)[rows], -torch.inf)

    def _after(self, state: Node | None, token: int) -> Node | None:
        return None if state is None or self.vocabulary.ends(token) else self.vocabulary.after(state, token)

    def _wide(self, state: Node, size: int) -> Tensor:
        # Models may score more tokens than the tokenizer has, for a round number.
        return torch.nn.functional.pad(self.vocabulary.allowed(state), (0, size - self.vocabulary.size))
