"""Runs the arms of an evaluation on the same prompts and seeds, with models that are loaded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.prompts import Prompt, PromptTexts, fixed_texts
from ..data.ranking import best_round
from ..data.store import Row
from ..data.trajectory import by_prompt
from ..errors import UserError
from ..models import ModelPool
from ..models.refiner import Refiner
from ..recipe import Recipe
from ..recipe.identity import align_hash, row_hash
from ..stage1.align import AlignParts
from ..stage1.run import align_prompts
from ..stage2.judges import build_judge, build_judges
from ..stage2.run import run_loop
from .arms import ArmResult, scores_in_order
from .module import Arm, score_prompts


def needs_stage1(recipe: Recipe) -> bool:
    """Whether an arm runs stage 1."""
    arms = recipe.evaluation.arms
    return "stage1" in arms or (recipe.stage2.start == "stage1" and "sspo" in arms)


def uses_base(recipe: Recipe) -> bool:
    """Whether an arm asks the language model without an adapter."""
    return needs_stage1(recipe) or any("sspo" in arm for arm in recipe.evaluation.arms)


def check_arms(recipe: Recipe, prompts: Sequence[Prompt]) -> None:
    """Checks that each arm has what it needs.

    Raises:
        UserError: If one has not.
    """
    if "reference" in recipe.evaluation.arms and not all(prompt.reference for prompt in prompts):
        raise UserError(
            "The arm `reference` needs a column `reference` with text in every row of the held-out prompts. Got prompts "
            "without; add the column or leave the arm out of `evaluation.arms`."
        )


class Evaluator:
    """The arms of a recipe."""

    def __init__(
        self, recipe: Recipe, folder: Path, prompts: list[Prompt], models: ModelPool, refiner: Refiner | None
    ) -> None:
        """Builds what the arms need; nothing is loaded yet.

        Args:
            recipe: The recipe.
            folder: The run folder.
            prompts: The held-out prompts.
            models: The pool.
            refiner: The refiner, where an arm uses one.

        Raises:
            UserError: If a part is missing or not usable.
        """
        self.recipe, self.folder, self.prompts = recipe, folder, prompts
        self.models, self.refiner = models, refiner
        metric = build_judge(recipe.evaluation.metric, "evaluation.metric")
        self.judges = build_judges(recipe) if any("sspo" in arm for arm in recipe.evaluation.arms) else []
        # One object where the loop listens to the metric: a verifier may have costly parts, such as processes.
        self.judge = next((judge for judge in self.judges if judge.identity == metric.identity), metric)
        # The loop of an arm runs on the evaluation's seeds, so that its videos are those the other arms compare with.
        stage2 = dataclasses.replace(recipe.stage2, save_videos=False)
        self.loop_recipe = dataclasses.replace(recipe, seed=recipe.evaluation.seed, stage2=stage2)
        self.parts = AlignParts.from_recipe(recipe, models) if needs_stage1(recipe) else None
        self._arms: dict[str, Callable[[], tuple[Arm, float]]] = {
            "raw": lambda: (Arm("raw", fixed_texts({p.id: p.text for p in prompts})), 0.0),
            "reference": lambda: (Arm("reference", fixed_texts({p.id: p.reference for p in prompts})), 0.0),
            "refiner": lambda: (Arm("refiner", self._refined, self._refiner_identity()), 0.0),
            "stage1": self._stage1,
            "sspo": lambda: self._loop("sspo"),
            "refiner+sspo": lambda: self._loop("refiner+sspo"),
        }

    def _refined(self, prompts: Sequence[Prompt]) -> list[str]:
        assert self.refiner is not None
        return self.refiner([prompt.text for prompt in prompts])

    def _refiner_identity(self) -> str:
        """Identity of the adapter, so that rows of an older one are not taken for those of this one."""
        return self.refiner.identity() if self.refiner is not None else ""

    def _aligned(self) -> tuple[PromptTexts, float]:
        """Runs stage 1; returns its prompts and the seconds per prompt."""
        assert self.parts is not None
        rows = align_prompts(self.recipe, self.prompts, self.folder / "evaluation" / "aligned", self.models, self.parts)
        spent = sum(row[f"seconds_{part}"] for row in rows.values() for part in ("retrieve", "merge", "rewrite"))
        return fixed_texts({identity: row["prompt"] for identity, row in rows.items()}), spent / len(rows)

    def _stage1(self) -> tuple[Arm, float]:
        texts, seconds = self._aligned()
        return Arm("stage1", texts, align_hash(self.recipe)), seconds

    def _loop(self, name: str) -> tuple[Arm, float]:
        """Runs the loop of an arm; returns its winners and the seconds per prompt."""
        refined = name.startswith("refiner")
        start: PromptTexts | None = self._refined if refined else None
        before = 0.0
        if start is None and self.recipe.stage2.start == "stage1":
            start, before = self._aligned()
        rounds = self.recipe.stage2.rounds
        identity = [row_hash(self.loop_recipe), rounds, self._refiner_identity() if refined else ""]
        folder = self.folder / "evaluation" / f"loop-{name}"
        if refined:
            folder = folder.with_name(f"{folder.name}-{self._refiner_identity()}")
        rows = run_loop(self.loop_recipe, self.prompts, folder, self.folder, self.models, self.judges, start)
        rows = [row for row in rows if row["round"] < rounds]
        winners = {key: best_round(group)["prompt"] for key, group in by_prompt(rows).items()}
        return Arm(name, fixed_texts(winners), identity), before + _seconds(rows, True) / len(self.prompts)

    def run(self, name: str) -> ArmResult:
        """Runs one arm to its end and scores it."""
        arm, seconds = self._arms[name]()
        rows = score_prompts(self.recipe, self.models, self.judge, self.folder, arm, self.prompts)
        looped, rounds = name.endswith("sspo"), self.recipe.stage2.rounds
        if not looped:
            # A loop's winner was generated in the loop already; generating it again for the metric is not its cost.
            seconds += _seconds(rows, False) / len(rows)
        scores = scores_in_order(rows, [prompt.id for prompt in self.prompts], self.judge.verifier.name)
        return ArmResult(f"{name}@{rounds}" if looped else name, scores, rounds if looped else 1, seconds)


def _seconds(rows: Sequence[Row], with_judge: bool) -> float:
    """Time of generating and rewriting all rows, and of judging them where the arm needs that."""
    parts = ("generate", "rewrite", "judge") if with_judge else ("generate", "rewrite")
    return sum(float(row[f"seconds_{part}"]) for row in rows for part in parts)
