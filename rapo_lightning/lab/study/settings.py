"""What the study compares: one factor at a time around a best setting, in two regimes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UserError
from .scale import FEW, Regime, Scale

BEST = "best"
PLAIN = "plain"
"""Where captions are known: the recipe's own floors, and any words. The other settings differ from this one."""
OWN = "own"
"""As `Setting.adapter`: that of the setting it is compared with."""
GRPO = {
    "stage3.grpo.lr": 2e-4,
    "stage3.grpo.rewards": [{"reward": "video"}, {"reward": "usable", "weight": 0.5}],
    "stage3.grpo.group": 4,
    "stage3.grpo.unrefined": 1,
}
"""GRPO by the loop's own verifiers on a video of each answer (docs/stage3.md, with its rate), in small groups for the time (ours)."""
STEPS = {"stage3.optimizer.batch_size": 64, "stage3.optimizer.micro_batch_size": 64}
"""Steps of all settings but GRPO's, larger than the recipe's since there are more pairs (ours)."""
FRESH = {
    "stage3.lora.start": "", "stage3.lora.r": 8, "stage3.lora.alpha": 16, "stage3.system": "", "stage3.optimizer.lr": 1e-3, **STEPS,
}  # fmt: skip
"""A fresh adapter in the place of the recipe's, which goes on with stage 1's rewriter at a lower rate (docs/lab.md, "The arms")."""
FROM_EXAMPLES = {
    **FRESH, "trainer.precision": "32-true", "stage3.epochs": 120, "stage3.validation_share": 0.0, "stage3.pairs": [],
    "stage3.optimizer.batch_size": FEW, "stage3.optimizer.micro_batch_size": FEW,
}  # fmt: skip
"""A refiner of the few examples alone, which it learns by heart: it takes on the style and names a third of what is asked for (ours)."""
GOING_ON = {"stage3.optimizer.lr": 6e-4, **STEPS}
"""What goes with the adapter of stage 1's rewriter as the start: twice the recipe's rate for four times its batch (ours)."""
_FRAME = {"prefix": "A simple animation shows ", "suffix": ". The motion is smooth and the camera stays fixed."}
BASELINES: dict[str, Any] = {
    "style": {"class_path": "rapo_lightning.evaluation.baselines.StyleFrame", "init_args": _FRAME},
    "restated": {"class_path": "rapo_lightning.evaluation.baselines.Restated", "init_args": _FRAME},
    "dictionary": {"class_path": "rapo_lightning.lab.baselines.Dictionary"},
}
"""The baselines of the lab's recipe, and what the judge's words alone are worth."""
_ANYWHERE = ("raw", "reference", "chance", "style", "sspo", "blind")
ARMS: Mapping[Regime, tuple[str, ...]] = {
    "known": (*_ANYWHERE, "refiner+sspo", "dictionary", "stage1", "rewriter"),
    "unknown": (*_ANYWHERE, "restated"),
}
"""Arms beside the refiners; `rewriter` is stage 1's alone, whatever it answers. Where captions are not known `refiner+sspo` is the loop in
which the refiner writes, told the judge's words (`JUDGES_WORDS`), and `sspo` the paper's."""
JUDGES_WORDS = {"stage2.request": "judge"}
"""What makes a loop without captions go by the judge's words, by dotted key."""


@dataclass(frozen=True)
class Setting:
    """How a refiner is made.

    Attributes:
        name: Its name within a regime.
        factor: In what it differs from the best setting; `BEST` for that one.
        regime: What is known of the video model's captions.
        start: Where the first collection starts: from the `prompt` or from `stage1`, as `stage2.start`; or from a refiner of the few
            `examples`, which also samples the later rounds' prompts, told the request in the judge's words (`examples-user`: in the user's).
        wording: Whose words the prompts are in: `thesaurus` or `lexicon`.
        prompts: How many are collected on, for each cycle; each but the first cycle collects by the refiner of the one before.
        objective: `stage3.objective`.
        adapter: What the training begins with: a `fresh` adapter, the `rewriter`'s of stage 1, or that of the setting that it is
            compared with (`OWN`).
        targets: The `collected` ones; these `shuffled` among the prompts of a split (a negative control); or each prompt's
            `reference` (the ceiling of a set of prompts).
        floor: Least score of a target by the verifiers that the recipe has a floor for; 0 takes the recipe's.
        hindsight: `stage3.hindsight`.
        others: `stage3.hindsight_others`.
        closed: Whether the refiner keeps to the words of its targets.
        against: The setting that it differs from in one thing.
        fields: Further fields of the recipe for `finetune`, by dotted key.
    """

    name: str = BEST
    factor: str = BEST
    regime: Regime = "known"
    start: str = "stage1"
    wording: str = "thesaurus"
    prompts: tuple[int, ...] = ()
    objective: str = "sft"
    adapter: str = "fresh"
    targets: str = "collected"
    floor: float = 0.0
    hindsight: float = 0.0
    others: bool = True
    closed: bool = True
    against: str = BEST
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Collections that it learns from."""
        return len(self.prompts)

    def arm(self, number: int) -> str:
        """Name of its refiner in the results, by training seed."""
        return f"{self.name}.s{number}"


def _other(to: Setting, factor: str, name: str, **changes: Any) -> Setting:
    changes = {"against": to.name, **changes}
    return replace(to, name=f"{factor}-{name}".replace("+", "-"), factor=factor, **changes)


def settings(scale: Scale, regime: Regime) -> list[Setting]:
    """The table of a regime, the best setting first.

    Where captions are known the others differ from `PLAIN`, which the best one was found from, else from the best one.
    Where captions are not known there is no stage 1 to start from and no rewriter. There the first cycle finds few targets, so the
    best setting is that of the last cycle, with pairs in hindsight.
    """
    best = Setting(regime=regime, prompts=scale.prompts[regime], floor=0.9)
    if regime == "known":
        plain = replace(best, name=PLAIN, factor=PLAIN, floor=0.0, closed=False)
        found = [best, plain, *_objectives(scale, plain), *_known(scale, plain)]
    else:
        best = plain = replace(best, start="examples", hindsight=scale.hindsight, floor=scale.floors[best.cycles - 1])
        found = [best, *_objectives(scale, best), *_unknown(scale, best)]
        if scale.closed:
            found.append(_other(best, "closed", "none", closed=False))
    other = 0.9 if regime == "known" else 0.7
    found.append(_other(plain, "floor", str(other), floor=other))
    return [*found, *(_other(plain, "targets", name, targets=name) for name in ("shuffled", "reference"))]


def _objectives(scale: Scale, to: Setting) -> Iterator[Setting]:
    answers = {f"stage3.optimizer.{name}": scale.answers for name in ("batch_size", "micro_batch_size")}
    for objective in scale.objectives:
        if objective != "sft+grpo":
            yield _other(to, "objective", objective, objective=objective)
            continue
        # GRPO takes larger steps than sft and has a video of each answer made, so that it goes on from that setting's refiners with
        # a part of the requests instead of after a training of its own.
        some = min(scale.requests, to.prompts[0]) if to.regime == "known" else to.prompts[0]
        yield _other(
            to, "objective", objective, objective="grpo", adapter=OWN, prompts=(some,), fields={**GRPO, **answers}
        )


def _known(scale: Scale, to: Setting) -> Iterator[Setting]:
    yield _other(to, "adapter", "rewriter", adapter="rewriter")
    sizes = {size: _other(to, "prompts", str(size), prompts=(size,)) for size in scale.sizes}
    yield from sizes.values()
    few = sizes[scale.few]
    yield _other(sizes[scale.requests], "start", "prompt", start="prompt")
    yield _other(few, "wording", "lexicon", wording="lexicon")
    for number in range(2, scale.cycles + 1):
        yield _other(few, "cycles", str(number), prompts=(scale.few,) * number)


def _unknown(scale: Scale, best: Setting) -> Iterator[Setting]:
    if best.hindsight:
        yield _other(best, "hindsight", "none", hindsight=0.0)
        yield _other(best, "others", "none", others=False)
    cycles = [
        # With any words: these are to try some, and what was seen once is not ruled out.
        _other(best, "cycles", str(number), prompts=best.prompts[:number], floor=scale.floors[number - 1], closed=False)
        for number in range(1, best.cycles)
    ]
    yield from cycles
    if cycles:
        yield from (_other(cycles[0], "start", start, start=start) for start in ("prompt", "examples-user"))


def needed(table: Sequence[Setting], names: Sequence[str]) -> list[Setting]:
    """The settings that were named, and those whose refiners they need; all where none was named."""
    chosen = [item for item in table if item.name in names or not names]
    of = {item.against for item in chosen if item.adapter == OWN}
    chosen += [item for item in table if item.name in of]
    earlier = {before(table, item, cycle).name for item in chosen for cycle in range(2, item.cycles + 1)}
    return [item for item in table if item in chosen or item.name in earlier]


def before(table: Sequence[Setting], setting: Setting, cycle: int) -> Setting:
    """The setting whose refiner collects a cycle of another one.

    Args:
        table: From `settings`.
        setting: The other one.
        cycle: From 2.
    """
    earlier = setting.prompts[: cycle - 1]
    return next(item for item in table if item.prompts == earlier and item.factor in (BEST, PLAIN, "prompts", "cycles"))


def check_names(names: Sequence[str], scale: Scale, regimes: Sequence[Regime]) -> None:
    """Checks names of settings.

    Raises:
        UserError: If one is of no setting of these regimes.
    """
    there = {item.name for regime in regimes for item in settings(scale, regime)}
    if set(names) - there:
        raise UserError(
            f"The study has no such setting. Got {', '.join(sorted(set(names) - there))}; take some of {', '.join(sorted(there))}."
        )


def regime_fields(regime: Regime, examples: str) -> dict[str, Any]:
    """What a regime sets in the recipe, by dotted key.

    Args:
        regime: The regime.
        examples: CSV of the few examples that are there where captions are not known.
    """
    if regime == "known":
        return {}
    return {
        "graph": "", "stage1.rewriter": "", "stage1.discriminator": "", "stage1.carry_over": False, "stage1.captions": "",
        "stage1.examples": examples, "stage2.start": "prompt", "stage2.rewriter": "", "stage2.memory": 1,
        "stage2.examples": examples, "stage2.style_weight": 0.0,
    }  # fmt: skip


def refiner_fields(refiner: str, alone: bool = False) -> dict[str, Any]:
    """What makes a refiner the start of a loop and nothing else of stage 1, as in `cycles.recipes`, by dotted key.

    Args:
        refiner: Its folder.
        alone: Whether it also makes the later rounds' prompts, which it samples without having been told what was seen.
    """
    own: dict[str, Any] = {"stage2.rewriter": refiner, "stage2.memory": 0} if alone else {}
    return {
        "graph": "", "stage1.rewriter": refiner, "stage1.discriminator": "", "stage1.carry_over": False,
        "stage1.examples": "", "stage1.faithfulness": -1.0, "stage2.start": "stage1", **own,
    }  # fmt: skip
