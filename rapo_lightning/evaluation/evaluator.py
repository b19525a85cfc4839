"""Runs the arms of an evaluation on the same prompts and seeds, with models that are loaded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..data.prompts import Prompt, PromptTexts, fixed_texts
from ..data.ranking import best_round
from ..data.store import Row
from ..data.trajectory import by_prompt
from ..errors import RunError
from ..models import ModelPool
from ..models.refiner import Refiner
from ..recipe import Draft, Recipe
from ..recipe.components import build
from ..recipe.evaluation import LOOPS
from ..recipe.identity import align_hash, component_identity
from ..stage1.align import AlignParts
from ..stage1.run import align_prompts
from ..stage2.judges import build_judge, build_judges, models_used
from ..stage2.loop import loop_hash
from ..stage2.run import run_loop
from ..stage2.strategy import BLIND, SEEDS, SSPO
from .arms import ArmResult, scores_in_order
from .baselines import Baseline
from .checks import chance_texts, needs_stage1, variants
from .module import Arm, score_prompts

_STRATEGIES = {"sspo": SSPO, "refiner+sspo": SSPO, "raw_best": SEEDS, "blind": BLIND}
"""How the arms with several videos of a prompt get them."""
_SHOWN = {"raw_best": "raw"}
"""Names in the results, before the number of videos, where they are others than in recipes."""


@dataclass(frozen=True)
class _Made:
    """An arm with what it took to get its texts, seconds and videos per prompt, and the videos that a loop picked."""

    arm: Arm
    seconds: float = 0.0
    videos: float = 1
    picked: Mapping[str, Row] = field(default_factory=dict)


class Evaluator:
    """The arms of a recipe."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        prompts: list[Prompt],
        models: ModelPool,
        refiner: Refiner | None,
        others: Mapping[str, Refiner] | None = None,
    ) -> None:
        """Builds what the arms need; nothing is loaded yet.

        Args:
            recipe: The recipe.
            folder: The run folder.
            prompts: The held-out prompts.
            models: The pool.
            refiner: The refiner, where an arm uses one.
            others: Those of `evaluation.refiners` that are arms.

        Raises:
            UserError: If a part is missing or not usable.
        """
        self.recipe, self.folder, self.prompts = recipe, folder, prompts
        self.models, self.refiner, self.others = models, refiner, others or {}
        settings = recipe.evaluation
        metric = build_judge(recipe, settings.metric, "evaluation.metric")
        self.judges = build_judges(recipe) if any(arm in LOOPS for arm in settings.arms) else []
        # One object where the loop listens to the metric: a verifier may have costly parts, such as processes.
        self.judge = next((judge for judge in self.judges if judge.scores_like(metric)), metric)
        self.recipes = {**({"stage1": recipe} if needs_stage1(recipe) else {}), **variants(recipe)}
        self.parts = {name: AlignParts.from_recipe(item, models) for name, item in self.recipes.items()}
        self._arms: dict[str, Callable[[], _Made]] = {
            "raw": lambda: self._fixed("raw", {p.id: p.text for p in prompts}),
            "reference": lambda: self._fixed("reference", {p.id: p.reference for p in prompts}),
            "chance": lambda: self._fixed("chance", chance_texts(prompts)),
            "refiner": lambda: _Made(Arm("refiner", self._refined, self._refiner_identity())),
            **{name: partial(self._other, name) for name in self.others},
            **{name: partial(self._stage1, name) for name in self.recipes},
            **{name: partial(self._loop, name) for name in LOOPS},
            **{
                name: partial(self._baseline, name, build(settings.baselines[name], f"evaluation.baselines[{name}]"))
                for name in settings.arms
                if name in settings.baselines
            },
        }

    def shown(self, name: str) -> str:
        """Name of an arm in the results."""
        return f"{_SHOWN.get(name, name)}@{self.recipe.stage2.rounds}" if name in LOOPS else name

    @staticmethod
    def _fixed(name: str, texts: dict[str, str]) -> _Made:
        # Rows are few and their videos recorded: where one text is another, all rows are joined anew.
        return _Made(Arm(name, fixed_texts(texts), texts))

    def _baseline(self, name: str, baseline: Baseline) -> _Made:
        def texts(prompts: Sequence[Prompt]) -> list[str]:
            made = baseline.texts(prompts, self.models)
            if len(made) != len(prompts):
                raise RunError(
                    f"`evaluation.baselines.{name}` must make one text of each prompt. Got {len(made)} of {len(prompts)}; "
                    "correct its `texts`."
                )
            return made

        component, uses = self.recipe.evaluation.baselines[name], models_used(self.recipe, baseline, name)
        identity = component_identity(component)
        return _Made(Arm(name, texts, [identity, *map(component_identity, uses)] if uses else identity))

    def _other(self, name: str) -> _Made:
        refiner = self.others[name]
        return _Made(Arm(name, lambda prompts: refiner([p.text for p in prompts]), refiner.identity()))

    def _refined(self, prompts: Sequence[Prompt]) -> list[str]:
        assert self.refiner is not None
        return self.refiner([prompt.text for prompt in prompts])

    def _refiner_identity(self) -> str:
        """Identity of the adapter, so that rows of an older one are not taken for those of this one."""
        return self.refiner.identity() if self.refiner is not None else ""

    def _aligned(self, name: str) -> tuple[PromptTexts, float]:
        """Runs stage 1, or a variant of it; returns its prompts and the seconds per prompt."""
        folder = self.folder / "evaluation" / "aligned"
        rows = align_prompts(self.recipes[name], self.prompts, folder, self.models, self.parts[name])
        spent = sum(row[f"seconds_{part}"] for row in rows.values() for part in ("retrieve", "merge", "rewrite"))
        return fixed_texts({identity: row["prompt"] for identity, row in rows.items()}), spent / len(rows)

    def _stage1(self, name: str) -> _Made:
        texts, seconds = self._aligned(name)
        return _Made(Arm(name, texts, align_hash(self.recipes[name])), seconds)

    def _loop(self, name: str) -> _Made:
        """Runs the loop of an arm on the recipe's seed, so that nothing is chosen on the videos that are scored."""
        refined, strategy = name.startswith("refiner"), _STRATEGIES[name]
        # Seeds are tried of the user's prompt; all others start from where the loop does, so that the rest is compared.
        origin = "prompt" if strategy is SEEDS else self.recipe.stage2.start
        stage2 = dataclasses.replace(self.recipe.stage2, save_videos=False, start=origin, draft=Draft())
        recipe = dataclasses.replace(self.recipe, stage2=stage2)
        start: PromptTexts | None = self._refined if refined else None
        before = 0.0
        if start is None and origin == "stage1":
            start, before = self._aligned("stage1")
        identity = [loop_hash(recipe, strategy), stage2.rounds, self._refiner_identity() if refined else ""]
        folder = self.folder / "evaluation" / (f"loop-{name}-{self._refiner_identity()}" if refined else f"loop-{name}")
        rows = run_loop(recipe, self.prompts, folder, self.folder, self.models, self.judges, start, strategy)
        rows = [row for row in rows if row["round"] < stage2.rounds]
        picked = {key: best_round(group, stage2.ranking) for key, group in by_prompt(rows).items()}
        texts = fixed_texts({key: row["prompt"] for key, row in picked.items()})
        count = len(self.prompts)
        return _Made(Arm(name, texts, identity), before + _seconds(rows, True) / count, len(rows) / count, picked)

    def run(self, name: str) -> ArmResult:
        """Runs one arm to its end and scores it."""
        made = self._arms[name]()
        rows = score_prompts(self.recipe, self.models, self.judge, self.folder, made.arm, self.prompts)
        ids, metric = [prompt.id for prompt in self.prompts], self.judge.verifier.name
        scores = scores_in_order(rows, ids, metric)
        if not made.picked:
            return ArmResult(self.shown(name), scores, 1, made.seconds + _seconds(rows, False) / len(rows), rows=rows)
        # The winner was generated in the loop already; generating it again for the metric is not the arm's cost.
        picked = scores_in_order(list(made.picked.values()), ids, metric) if self.judge in self.judges else None
        return ArmResult(self.shown(name), scores, made.videos, made.seconds, picked, rows)


def _seconds(rows: Sequence[Row], with_judge: bool) -> float:
    """Time of generating and rewriting all rows, and of judging them where the arm needs that."""
    parts = ("generate", "rewrite", "judge") if with_judge else ("generate", "rewrite")
    return sum(float(row[f"seconds_{part}"]) for row in rows for part in parts)
