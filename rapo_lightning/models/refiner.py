"""The trained refiner, ready to plug in: `pipe(prompt=refine("a cat on a sofa"))`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import torch

from ..checkpoints import is_here, weights_identity
from ..console import say
from ..data.ids import derived_seed
from ..errors import UserError
from ..prompting.answers import MAX_WORDS, REASONS, RULES, Refined, read_answer
from ..prompting.chat import Messages, Sampling
from .base import LanguageModel
from .faithfulness import FAITHFUL, Faithfulness, check_measure, faithfulness_identity, faithfulness_of
from .refiner_folder import RefinerFolder, read_refiner
from .transformers_language import TransformersLanguageModel

__all__ = ["Refined", "Refiner", "refiner_messages"]
_SHOWN = 60
"""Characters of a prompt that a warning repeats."""


def refiner_messages(request: str, system: str) -> Messages:
    """The conversation a refiner answers, the same in training and in use."""
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


class Refiner:
    """Rewrites prompts for the video model it was trained for; an answer that is no prompt leaves the user's as it is.

    The same prompt gives the same text, whatever else is refined with it.

    Example:
        >>> refine = Refiner.from_pretrained("ckpt/lab/refiner")  # doctest: +SKIP
        >>> refine("a crimson ball falling down")  # doctest: +SKIP
    """

    def __init__(
        self,
        settings: RefinerFolder,
        model: LanguageModel,
        *,
        candidates: int = 1,
        faithfulness: Faithfulness | None = None,
        threshold: float = FAITHFUL,
        max_words: int = MAX_WORDS,
        allow_other_base: bool = False,
    ) -> None:
        """Takes the parts; use `from_pretrained` for a folder alone.

        Args:
            settings: What `read_refiner` found.
            model: The base model with the folder's adapter.
            candidates: Answers per prompt, of which the most faithful is taken: the folder's own and further ones that are
                sampled.
            faithfulness: What tells how much of a request is in a refined prompt: an embedder, whose cosine counts, or a
                function `(request, prompt) -> float`. None leaves it unchecked.
            threshold: Least faithfulness of an answer; below it the user's prompt stays.
            max_words: Most words of a refined prompt; a longer answer is cut after its last sentence within them.
            allow_other_base: Whether the base may have other weights than the one the adapter was trained on.

        Raises:
            UserError: If an argument is out of range, or there are several candidates and nothing to choose by.
        """
        if candidates < 1 or max_words < 1:
            raise UserError(
                f"A refiner needs candidates >= 1 and max_words >= 1. Got candidates={candidates}, max_words={max_words}."
            )
        if candidates > 1 and faithfulness is None:
            raise UserError(
                f"Several candidates need `faithfulness`, by which one is chosen. Got {candidates} candidates and none; give an "
                "embedder or a function of request and prompt."
            )
        if faithfulness is not None:
            check_measure(faithfulness)
        self.settings, self.model = settings, model
        self.candidates, self.faithfulness, self.threshold = candidates, faithfulness, threshold
        self.max_words, self.allow_other_base = max_words, allow_other_base
        remote = getattr(model, "remote", False)
        if remote and settings.closed:
            say(
                f"The refiner in {settings.path} keeps to its own words only where it runs here: the server does not know them.",
                error=True,
            )
        self._base_is_open = bool(settings.base_identity) and not allow_other_base and not remote
        self._told: set[str] = set()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        base: str | None = None,
        batch_size: int = 16,
        device: str | torch.device | None = None,
        *,
        candidates: int = 1,
        faithfulness: Faithfulness | None = None,
        threshold: float = FAITHFUL,
        max_words: int = MAX_WORDS,
        allow_other_base: bool = False,
    ) -> Refiner:
        """Opens a refiner folder with a model of its own; weights are loaded on first use.

        Args:
            folder: A run's `refiner` folder.
            base: Name of the base model to put under the adapter; None takes the one it was trained on.
            batch_size: Answers per generation.
            device: Device to move to; None leaves the model where the caller puts it (CPU at first).
            candidates: As in `__init__`.
            faithfulness: As in `__init__`.
            threshold: As in `__init__`.
            max_words: As in `__init__`.
            allow_other_base: Whether `base` may be another model than the one the adapter was trained on, or have other
                weights, such as a quantized copy.

        Raises:
            UserError: As `read_refiner` and `__init__`.
        """
        settings = read_refiner(folder, base, allow_other_base)
        settings = replace(settings, base_model=base or settings.base_model)
        model = TransformersLanguageModel(settings.base_model, adapter=settings.weights, batch_size=batch_size)
        refiner = cls(
            settings, model, candidates=candidates, faithfulness=faithfulness, threshold=threshold, max_words=max_words,
            allow_other_base=allow_other_base,
        )  # fmt: skip
        if device is not None:
            model.to(torch.device(device))
        return refiner

    @property
    def folder(self) -> Path:
        """The refiner's folder."""
        return self.settings.path

    @property
    def vocabulary(self) -> frozenset[str]:
        """Words of its training pairs; empty if they are not known."""
        return self.settings.vocabulary

    def identity(self) -> str:
        """Hash of all that decides a refined prompt (16 hex digits): adapter, settings, rules, and a base that is allowed to differ."""
        base = weights_identity(self.settings.base_model) if self.allow_other_base else ""
        judged = faithfulness_identity(self.faithfulness)
        choice = [self.candidates, judged, self.threshold if judged else 0.0]
        parts = [self.settings.identity(), RULES, self.max_words, choice, base]
        quantization = getattr(self.model, "quantization", "none")
        parts += [quantization] if quantization != "none" else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def check_base(self) -> None:
        """Compares the base's weights with those the adapter was trained on, once; one behind a server is not known.

        Call it where the base was fetched and nothing is loaded yet; it is called before the first answer anyway.

        Raises:
            UserError: If they are others and that is not allowed.
        """
        settings = self.settings
        if not self._base_is_open or not is_here(settings.base_model):
            return
        found = weights_identity(settings.base_model)
        if found != settings.base_identity:
            raise UserError(
                f"The refiner in {settings.path} was trained on other weights than {settings.base_model!r} has here. Got "
                f"{found} instead of {settings.base_identity}; fetch the right ones, or say `allow_other_base` where they are "
                "a copy, such as a quantized one."
            )
        self._base_is_open = False

    @overload
    def __call__(self, prompt: str) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, prompt: Sequence[str]) -> list[str]: ...
    def __call__(self, prompt: str | Sequence[str]) -> str | list[str]:
        """Refines one prompt or several, as texts; says once per reason, on stderr, where a prompt stays as it is."""
        found = self.refine([prompt] if isinstance(prompt, str) else list(prompt))
        for item in found:
            if item.fell_back and item.reason not in self._told:
                self._told.add(item.reason)
                shown = item.prompt if len(item.prompt) <= _SHOWN else item.prompt[:_SHOWN] + " ..."
                say(
                    f"A prompt stays as it is: {REASONS[item.reason]} ({shown!r}). Others of this kind are not said; "
                    "`Refiner.refine` gives the reason of each.",
                    error=True,
                )
        texts = [item.refined for item in found]
        return texts[0] if isinstance(prompt, str) else texts

    def refine(self, prompts: Sequence[str]) -> list[Refined]:
        """Refines prompts and says of each how its text came about.

        Args:
            prompts: The users' prompts.

        Returns:
            One for each, in order. The best candidate that is a prompt; on a tie the earliest, the folder's own before the sampled.

        Raises:
            UserError: As `check_base`.
        """
        read = [
            [read_answer(prompt, answer, self.max_words) for answer in answers]
            for prompt, answers in zip(prompts, self._candidates(prompts), strict=True)
        ]
        if self.faithfulness is None:
            return [options[0] for options in read]
        usable = [(place, item) for place, options in enumerate(read) for item in options if not item.fell_back]
        scores = faithfulness_of(self.faithfulness, [(item.prompt, item.refined) for _, item in usable])
        best: dict[int, tuple[float, Refined]] = {}
        for (place, item), score in zip(usable, scores, strict=True):
            if place not in best or score > best[place][0]:
                best[place] = (score, item)
        return [self._faithful(*best[place]) if place in best else options[0] for place, options in enumerate(read)]

    def _faithful(self, score: float, found: Refined) -> Refined:
        # Not `score < threshold`: a score that is no number is no reason to trust the answer.
        return found if score >= self.threshold else Refined(found.prompt, found.prompt, "unfaithful")

    def _candidates(self, prompts: Sequence[str]) -> list[list[str]]:
        """Answers as they came: the folder's own first, then those that are sampled."""
        own = self._ask(prompts, self.settings.sampling)
        if self.candidates == 1:
            return own
        sampling = self.settings.sampling
        if sampling.temperature == 0:
            sampling = replace(Sampling(), max_new_tokens=sampling.max_new_tokens)
        further = self._ask(prompts, sampling, self.candidates - 1, "candidates")
        return [first + others for first, others in zip(own, further, strict=True)]

    def _ask(self, prompts: Sequence[str], sampling: Sampling, count: int = 1, *salt: str) -> list[list[str]]:
        if self._base_is_open and not is_here(self.settings.base_model):
            # A hub id that was not fetched yet has no weights to compare.
            self.model.load()
        self.check_base()
        conversations = [refiner_messages(text, self.settings.system) for text in prompts]
        seeds = [derived_seed(self.settings.seed, text, *salt) for text in prompts]
        return self.model.complete(conversations, seeds, sampling, count)

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """The model's own answer to each prompt on one line, unchecked, empty where it gave none; for who checks by himself."""
        return [" ".join(answer.split()) for (answer,) in self._ask(prompts, self.settings.sampling)]
