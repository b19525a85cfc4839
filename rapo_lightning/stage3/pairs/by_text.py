"""Filters that look at texts."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.captions import read_captions
from ...data.ranking import reaches
from ...errors import UserError
from .caption_model import CaptionModel
from .filter import Candidate, Context, Reader


def _reader(context: Context, name: str) -> Reader:
    if context.reader is None:
        raise UserError(
            f"`{name}` needs something that reads texts. Got a recipe without `stage3.reader`; name a class there, or leave the "
            "filter out."
        )
    return context.reader


def share_right(reader: Reader, candidate: Candidate) -> float:
    """Share of what a request names that the candidate's text names as well; 1 where it names nothing."""
    right = reader.right(candidate.request, candidate.text)
    return sum(right.values()) / len(right) if right else 1.0


class NamedRight:
    """What names all that its request names, and nothing else instead, by `stage3.reader` (ours).

    A refiner trained on targets that drop or change what was asked for learns to do so (PEBench and WanPE measure it).
    """

    name = "named_right"
    verifiers: Sequence[str] = ()

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        reader = _reader(context, self.name)
        return [item for item in candidates if all(reader.right(item.request, item.text).values())]


class Faithful:
    """What is faithful to its request by a verifier of texts, or by `stage3.reader` in part (ours; a check that needs no video)."""

    name = "faithful"

    def __init__(self, least: float, by: str = "text_fidelity") -> None:
        """Sets the measure.

        Args:
            least: Least score, or share of what the request names.
            by: Name of a verifier whose score is in the rows; `reader` takes the share that `stage3.reader` finds.
        """
        if not 0 <= least <= 1:
            raise UserError(f"`faithful` needs 0 <= least <= 1. Got {least}; correct the number.")
        self.least, self.by = least, by
        self.verifiers: Sequence[str] = [] if by == "reader" else [by]

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        if self.by != "reader":
            return [item for item in candidates if reaches(item.row, self.by, self.least)]
        reader = _reader(context, self.name)
        return [item for item in candidates if share_right(reader, item) >= self.least]


class Style:
    """What is written as the captions are that the video model was trained on (ours; RAPO's aim of stage 1).

    A model of word triples is counted from nine tenths of `stage1.captions`; it stands for a language model tuned on them, costs a
    second, and knows which words and turns they use, not what they mean. A text must be as likely per word as all but a small share
    of the captions in the last tenth.
    """

    name = "style"
    verifiers: Sequence[str] = ()

    def __init__(self, share: float = 0.01) -> None:
        """Sets the threshold.

        Args:
            share: Share of the held-out captions that are less likely than a text may be.
        """
        if not 0 <= share < 1:
            raise UserError(f"`style` needs 0 <= share < 1. Got {share}; correct the number.")
        self.share = share

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        if not context.captions:
            raise UserError(
                "`style` compares with the video model's captions. Got a recipe without `stage1.captions`; name their file, or "
                "leave the filter out."
            )
        model, least = CaptionModel.fitted(read_captions(context.captions), self.share)
        return [item for item in candidates if model.log_likelihood(item.text) >= least]


class Words:
    """What is not too long (Prompt-A-Video drops texts over 130 words, PhyT2V over 120)."""

    name = "words"
    verifiers: Sequence[str] = ()

    def __init__(self, most: int = 120) -> None:
        """Sets the cap.

        Args:
            most: Longest text in words.
        """
        if most < 1:
            raise UserError(f"`words` needs most >= 1. Got {most}; correct the number.")
        self.most = most

    def keep(self, candidates: Sequence[Candidate], context: Context) -> list[Candidate]:
        """See `Filter`."""
        return [item for item in candidates if len(item.text.split()) <= self.most]
