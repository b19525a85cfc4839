"""The steps of a study in order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import UserError
from . import prompts as files
from .pairs import write_shuffled, write_subset
from .scale import REGIMES, Regime, Scale
from .settings import (
    ARMS,
    BASELINES,
    BEST,
    FRESH,
    FROM_EXAMPLES,
    JUDGES_WORDS,
    OWN,
    PLAIN,
    Setting,
    before,
    check_names,
    needed,
    refiner_fields,
    regime_fields,
    settings,
)  # fmt: skip
from .steps import Commands, Step
from .trainings import going_on, rewriter_of, training_fields

PARTS = ("prompts", "collect", "finetune", "evaluate", "report")


class Plan:
    """The steps of a study."""

    def __init__(
        self, folder: Path, recipe: str, scale: Scale, regimes: Sequence[Regime] = REGIMES, options: Sequence[str] = (),
        only: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Takes what the study consists of; nothing is read but the recipe.

        Args:
            folder: The study's folder.
            recipe: The recipe that all settings change.
            scale: How large it is.
            regimes: Which regimes.
            options: Further arguments of all commands, such as `--allow_package`.
            only: Names of the settings; empty takes all.

        Raises:
            UserError: If there is no such recipe or setting.
        """
        self.folder, self.scale, self.regimes, self._only = folder, scale, list(regimes), list(only)
        check_names(only, scale, regimes)
        self._make = Commands(folder, recipe, options)

    def steps(self) -> list[Step]:
        """All steps but the report's, in an order in which each finds what it needs."""
        tables = {regime: self.settings(regime) for regime in self.regimes}
        found = list(self._prompts([item for table in tables.values() for item in table]))
        for table in tables.values():
            # A cycle collects by the refiner of the one before, and some trainings go on from another setting's.
            for setting in sorted(table, key=lambda item: (item.adapter == OWN, item.cycles)):
                found += self._collections(setting)
                for number in range(self.trainings(setting)):
                    found += self._training(setting, number)
        for regime, table in tables.items():
            found += self._evaluations(regime, table)
        # A setting's collection may be another's too.
        return list({step.name: step for step in found}.values())

    def settings(self, regime: Regime) -> list[Setting]:
        """The settings of a regime that were chosen, the best one first."""
        return needed(settings(self.scale, regime), self._only)

    def trainings(self, setting: Setting) -> int:
        """How often a setting is trained, with as many seeds."""
        return self.scale.training_seeds if setting.name in (BEST, PLAIN) else self.scale.other_seeds

    def run_folder(self, regime: Regime, best_of: bool = False) -> Path:
        """Run folder of a regime's evaluation, or of its best refiner's answers, of which the judge chooses one."""
        return self.folder / f"evaluate-{regime}{'-best-of' if best_of else ''}"

    def refiner(self, setting: Setting, number: int = 0) -> Path:
        """Folder of a refiner, by training seed."""
        return self.folder / "finetune" / f"{setting.regime}.{setting.arm(number)}" / "refiner"

    def _prompt_file(self, name: str) -> Path:
        return self.folder / "prompts" / f"{name}.csv"

    def _most(self, setting: Setting) -> int:
        """Prompts of the largest first collection of a setting's kind, which the smaller ones are taken from."""
        table = self.settings(setting.regime)
        return max(item.prompts[0] for item in table if (item.wording, item.start) == (setting.wording, setting.start))

    def _prompts(self, table: Sequence[Setting]) -> Iterator[Step]:
        path, scale = self._prompt_file("heldout"), self.scale

        def held_out() -> None:
            files.write_held_out(path, scale.group, scale.written)

        yield self._make.written("heldout", "prompts", held_out, scale.group, scale.written)
        examples = (self._prompt_file("examples"), self._prompt_file("examples-pairs"))
        yield self._make.written("examples", "prompts", lambda: files.write_examples(*examples))
        for wording in dict.fromkeys(item.wording for item in table):
            count = max(size for item in table if item.wording == wording for size in item.prompts)
            target = self._prompt_file(wording)

            def write(target: Path = target, wording: str = wording, count: int = count) -> None:
                files.write_prompts(target, wording, count)

            yield self._make.written(f"prompts-{wording}", "prompts", write, count)

    def _regime(self, regime: Regime) -> dict[str, Any]:
        size = self.scale.together
        together = {"stage1.batch_size": size, "stage2.batch_size": size} if size else {}
        return {**regime_fields(regime, str(self._prompt_file("examples"))), **together}

    def _run(self, setting: Setting, cycle: int = 1) -> Path:
        """Run folder of a cycle's collection."""
        kind = f"{setting.start}-{setting.wording}-{setting.prompts[0]}" if cycle == 1 else f"cycle-{cycle}"
        return self.folder / "collect" / f"{setting.regime}-{kind}"

    def _collections(self, setting: Setting) -> Iterator[Step]:
        most = self._most(setting)
        whole = Setting(regime=setting.regime, start=setting.start, wording=setting.wording, prompts=(most,))
        source, target, prompts = self._run(whole), self._run(setting), self._prompt_file(setting.wording)
        fields = {
            **self._regime(setting.regime), "prompts": str(prompts), "limit": most, "stage2.save_videos": False,
            "stage2.start": setting.start,
        }  # fmt: skip
        if setting.regime == "unknown":
            fields["stage2.rounds"] = self.scale.rounds[0]
        if setting.start.startswith("examples"):
            first = self.folder / "collect" / "examples"
            own, pairs = {**self._regime(setting.regime), **FROM_EXAMPLES}, str(self._prompt_file("examples-pairs"))
            # What the collection starts from, so it is of its part.
            yield self._make.command("finetune-examples", "collect", own, first, "--pairs", pairs)
            words = {} if setting.start.endswith("user") else JUDGES_WORDS
            fields |= {**refiner_fields(str(first / "refiner"), alone=True), **words}
        yield self._make.command(f"collect-{source.name}", "collect", fields, source)
        if target != source:

            def write() -> None:
                write_subset(source, prompts, setting.prompts[0], target)

            yield self._make.written(f"collect-{target.name}", "collect", write, most)
        if setting.cycles > 1:
            # By the first training of the cycle before, and between trainings, so it is of their part.
            last = setting.cycles
            refiner = self.refiner(before(settings(self.scale, setting.regime), setting, last))
            own = refiner_fields(str(refiner), alone=setting.regime == "unknown")
            again, later = {**fields, **own, "limit": setting.prompts[-1]}, self._run(setting, last)
            if setting.regime == "unknown":
                again["stage2.rounds"] = self.scale.rounds[last - 1]
            yield self._make.command(f"collect-{later.name}", "finetune", again, later, optional=True)

    def _training(self, setting: Setting, number: int) -> Iterator[Step]:
        """A finetune, and what writes its pairs where they are not the run's own."""
        name, out = f"finetune-{setting.regime}.{setting.arm(number)}", self.refiner(setting, number).parent
        seed = int(self._make.recipe.get("seed", 0)) + number
        runs = [str(self._run(setting, cycle)) for cycle in range(1, setting.cycles + 1)]
        fields = {
            **self._regime(setting.regime), **self._adapter(setting, number), "seed": seed,
            **training_fields(self._make.recipe, self.scale, setting, str(self._prompt_file(setting.wording))),
        }  # fmt: skip
        given: list[str] = []
        if setting.targets != "collected":
            pairs = out / ("pairs" if setting.targets == "shuffled" else "pairs.csv")
            given, own = ["--pairs", str(pairs)], {**fields, "stage3.runs": runs}

            def write() -> None:
                if setting.targets == "shuffled":
                    write_shuffled(self._make.keep(f"{name}-pairs", own), pairs, seed)
                else:
                    files.write_references(self._prompt_file(setting.wording), pairs, setting.prompts[-1])

            text = self._make.text(own)
            yield self._make.written(f"{name}-pairs", "finetune", write, setting.prompts[-1], text, optional=True)
        fields |= {"stage3.pairs": []} if given else {"stage3.runs": runs}
        yield self._make.command(name, "finetune", fields, out, *given, optional=setting.name != BEST)

    def _adapter(self, setting: Setting, number: int) -> dict[str, Any]:
        """What a training begins with: form, instruction and rate."""
        to = next(item for item in settings(self.scale, setting.regime) if item.name == setting.against)
        if "rewriter" not in (setting.adapter, to.adapter if setting.adapter == OWN else ""):
            fields = dict(FRESH)
        else:
            fields = going_on(rewriter_of(self._make.recipe))
        if setting.adapter == OWN:
            fields["stage3.lora.start"] = str(self.refiner(to, number % self.scale.training_seeds))
        return fields

    def _evaluations(self, regime: Regime, table: Sequence[Setting]) -> Iterator[Step]:
        """Each arm on the same prompts and video seeds, some at a time; the report reads the rows of all."""
        out, best, name = self.run_folder(regime), Setting(regime=regime), f"evaluate-{regime}"
        others = {item.arm(number): self.refiner(item, number)
                  for item in table for number in range(self.trainings(item))}  # fmt: skip
        names, size = list(others), self.scale.arms
        own = {"rewriter": rewriter_of(self._make.recipe)} if regime == "known" else {}
        fields = {
            **self._regime(regime), "evaluation.prompts": str(self._prompt_file("heldout")), "evaluation.limit": 0,
            "evaluation.seeds": self.scale.video_seeds, "evaluation.baselines": BASELINES, "evaluation.variants": {},
            "evaluation.compare": "", "evaluation.metric.init_args.asked": files.WRITTEN,
        }  # fmt: skip

        def bring() -> None:
            # Where `evaluate` looks for the refiner of its loop.
            if not self.refiner(best).is_dir():
                raise UserError(
                    f"The evaluation needs the best setting's refiner. Got no {self.refiner(best)}; run the part `finetune` first."
                )
            shutil.rmtree(out / "refiner", ignore_errors=True)
            shutil.copytree(self.refiner(best), out / "refiner")

        def of(arms: Sequence[str]) -> dict[str, Any]:
            # Those that there was nothing to train on are left out.
            there = {**own, **{arm: str(path) for arm, path in others.items() if path.is_dir()}}
            wanted = [arm for arm in arms if arm not in others or arm in there]
            return {**fields, "evaluation.arms": wanted or ["raw"], "evaluation.refiners": there}

        sees = bool(self._make.recipe.get("vision_language_model"))
        chunks = [
            [arm for arm in ARMS[regime] if sees or arm != "restated"],
            *(names[start : start + size] for start in range(0, len(names), size)),
        ]
        for number, arms in enumerate(chunks, 1):
            yield self._make.command(f"{name}-{number}", "evaluate", partial(of, arms), out, before=bring)
        refiner = str(self.refiner(best))
        # The refiner's own answers, as many as the loop makes videos, of which the judge chooses one.
        wanted = {**fields, **refiner_fields(refiner, alone=True), "evaluation.arms": ["blind"]}
        if regime == "unknown":
            # The same told what the judge reads in the request: the loop that the refiner was trained in.
            wanted |= {**JUDGES_WORDS, "evaluation.arms": ["blind", "sspo"]}
        yield self._make.command(f"{name}-best-of", "evaluate", wanted, self.run_folder(regime, True))
