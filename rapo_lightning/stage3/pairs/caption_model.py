"""How likely a text is among the captions of a video model: a model of their words that loads nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...errors import UserError
from ...prompting.text import words

_ORDER = 3
"""Words of the longest chain that is counted (ours)."""
_HELD_OUT = 10
"""Every how many captions one is not counted but scored, for the threshold (ours)."""
_BEGIN, _END = "<s>", "</s>"


class CaptionModel:
    """Word triples, interpolated with pairs and single words (Witten and Bell, 1991), down to a share for words never seen."""

    def __init__(self, captions: Sequence[str]) -> None:
        """Counts the chains of captions.

        Args:
            captions: The captions; letters' case and signs do not count.
        """
        chains: Counter[tuple[str, ...]] = Counter()
        for caption in captions:
            spoken = _spoken(caption)
            for end in range(_ORDER, len(spoken) + 1):
                chains.update(spoken[end - length : end] for length in range(1, _ORDER + 1))
        self.chains = chains
        self.seen: Counter[tuple[str, ...]] = Counter()
        """How often something followed a chain."""
        self.kinds: Counter[tuple[str, ...]] = Counter()
        """How many different words did."""
        for chain, count in chains.items():
            self.seen[chain[:-1]] += count
            self.kinds[chain[:-1]] += 1
        self.vocabulary = self.kinds[()] + 1

    @classmethod
    def fitted(cls, captions: Sequence[str], share: float) -> tuple[CaptionModel, float]:
        """A model of nine tenths of the captions, and what all but a share of the last tenth reach.

        Args:
            captions: The captions; repeated ones count once.
            share: Share of the held-out captions that may be less likely.

        Raises:
            UserError: If there are fewer than ten.
        """
        different = list(dict.fromkeys(captions))
        if len(different) < _HELD_OUT:
            raise UserError(
                f"A model of the captions' style needs {_HELD_OUT} different captions at least. Got {len(different)}; name a "
                "larger file in `stage1.captions`."
            )
        model = cls([caption for place, caption in enumerate(different) if place % _HELD_OUT])
        return model, float(np.quantile([model.log_likelihood(caption) for caption in different[::_HELD_OUT]], share))

    def probability(self, chain: tuple[str, ...]) -> float:
        """Probability of the last word of a chain after those before it."""
        if not chain:
            return 1 / self.vocabulary
        before, shorter = chain[:-1], self.probability(chain[1:])
        seen, kinds = self.seen[before], self.kinds[before]
        return (self.chains[chain] + kinds * shorter) / (seen + kinds) if seen else shorter

    def log_likelihood(self, text: str) -> float:
        """Mean logarithm of the probabilities of a text's words, and of its end."""
        spoken = _spoken(text)
        ends = range(_ORDER, len(spoken) + 1)
        return sum(math.log(self.probability(spoken[end - _ORDER : end])) for end in ends) / len(ends)


def _spoken(text: str) -> tuple[str, ...]:
    return (*[_BEGIN] * (_ORDER - 1), *words(text), _END)
