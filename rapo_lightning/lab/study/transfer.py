"""Another video model: whether a refiner is its own model's, by refiners of two models on both of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...data.csv_log import csv_text
from ...data.tables import read_table
from ...errors import UserError
from ...running.folder import write_text
from ..tags import in_tags
from . import prompts as files
from .scale import Scale
from .settings import FRESH, regime_fields
from .steps import Commands, Step

Model = Literal["first", "second"]
MODELS: tuple[Model, ...] = ("first", "second")
"""lab-wan, which follows captions, and the one that follows tags."""
TARGETS = ("collected", "reference")
"""What a refiner learns: what its loop collected, knowing six examples of the style; or each prompt's reference."""
PARTS = ("prompts", "collect", "finetune", "evaluate")
OTHER_STYLE = "other-style"
JUDGE_ALONE = {"weights": {"temporal_coherence": 0.0, "text_fidelity": 0.0}, "gates": {}}
"""How the loops rank. Tags share hardly a word with a request, so that a vote for its words would be one against tags."""
_READERS = {"first": "rapo_lightning.lab.reading.CaptionReader", "second": "rapo_lightning.lab.tags.TagReader"}


def other(model: Model) -> Model:
    """The other model."""
    return MODELS[1 - MODELS.index(model)]


class Transfer:
    """The steps by which refiners of two models are made and compared."""

    def __init__(
        self, folder: Path, recipe: str, second: Path, scale: Scale, targets: Sequence[str], options: Sequence[str] = ()
    ) -> None:
        """Takes what it consists of; nothing is read but the recipe.

        Args:
            folder: The folder for all of it.
            recipe: The recipe with the first model.
            second: Diffusers folder of the second model (`scripts/train_second_model.py`).
            scale: How large.
            targets: Some of `TARGETS`.
            options: Further arguments of all commands.

        Raises:
            UserError: If there is no such recipe or model.
        """
        if not (second / "model_index.json").is_file():
            raise UserError(
                f"`--second` must be a diffusers folder. Got {second}, which has none; train it with "
                "`python -m rapo_lightning.lab.scripts.train_second_model`."
            )
        self.folder, self.second, self.scale, self.targets = folder, second, scale, list(targets)
        self._make = Commands(folder, recipe, options)

    def steps(self) -> list[Step]:
        """All steps but the report's, in order."""
        found = list(self._prompts())
        for model in MODELS:
            if "collected" in self.targets:
                found.append(self._collection(model))
            for targets in self.targets:
                for number in range(self.scale.training_seeds):
                    found += self._training(model, targets, number)
        return [*found, *(self._evaluation(model) for model in MODELS)]

    def run_folder(self, model: Model) -> Path:
        """Run folder of the evaluation on a model."""
        return self.folder / f"evaluate-{model}"

    def prompt_file(self, name: str, model: Model) -> Path:
        """A file of prompts with references in a model's style; `heldout`, `training` or `examples`."""
        return self.folder / "prompts" / f"{name}-{model}.csv"

    @property
    def _count(self) -> int:
        return self.scale.transfer

    def _prompts(self) -> Iterator[Step]:
        scale = self.scale

        def write() -> None:
            files.write_held_out(self.prompt_file("heldout", "first"), scale.group, scale.written)
            files.write_prompts(self.prompt_file("training", "first"), "thesaurus", self._count)
            files.write_examples(self.prompt_file("examples", "first"))
            for name, column in (("heldout", "reference"), ("training", "reference"), ("examples", "caption")):
                write_in_tags(self.prompt_file(name, "first"), column, self.prompt_file(name, "second"))
            self._make.keep("lab-second", self._fields("second"))

        yield self._make.written("prompts", "prompts", write, scale.group, scale.written, self._count, self.second)

    def _fields(self, model: Model) -> dict[str, Any]:
        """What a model sets in the recipe: captions are not known, but for six examples."""
        fields = {
            **regime_fields("unknown", str(self.prompt_file("examples", model))),
            "prompts": str(self.prompt_file("training", model)), "limit": self._count, "stage2.save_videos": False,
            "stage2.ranking": JUDGE_ALONE, "stage3.reader": {"class_path": _READERS[model]},
            "evaluation.prompts": str(self.prompt_file("heldout", model)), "evaluation.limit": 0, "evaluation.variants": {},
            "evaluation.baselines": {OTHER_STYLE: {"class_path": "rapo_lightning.lab.tags.OtherStyle"}},
            "evaluation.arms": ["raw", "chance", OTHER_STYLE, "reference"], "evaluation.compare": "",
        }  # fmt: skip
        return fields if model == "first" else {**fields, "video_model.init_args.checkpoint": str(self.second)}

    def _run(self, model: Model) -> Path:
        return self.folder / "collect" / model

    def _collection(self, model: Model) -> Step:
        return self._make.command(f"collect-{model}", "collect", self._fields(model), self._run(model))

    def _refiner(self, name: str) -> Path:
        return self.folder / "finetune" / name / "refiner"

    def _training(self, model: Model, targets: str, number: int) -> Iterator[Step]:
        arm = refiner_name(model, targets, number)
        seed = int(self._make.recipe.get("seed", 0)) + number
        fields: dict[str, Any] = {**self._fields(model), **FRESH, "seed": seed, "stage3.objective": "sft"}
        fields["stage3.epochs"] = self.scale.epochs_of(self._count)
        if targets == "collected":
            fields["stage3.runs"] = [str(self._run(model))]
            if self.scale.filters:
                fields["stage3.pairs"] = [dict(item) for item in self.scale.filters]
            yield self._make.command(f"finetune-{arm}", "finetune", fields, self._refiner(arm).parent, optional=True)
            return
        prompts, pairs = self.prompt_file("training", model), self.folder / "finetune" / f"{model}-references.csv"
        if not number:

            def write() -> None:
                files.write_references(prompts, pairs, self._count)

            yield self._make.written(f"references-{model}", "finetune", write, self._count)
        fields["stage3.pairs"] = []
        yield self._make.command(
            f"finetune-{arm}", "finetune", fields, self._refiner(arm).parent, "--pairs", str(pairs)
        )

    def _evaluation(self, model: Model) -> Step:
        names = [refiner_name(by, targets, number)
                 for targets in self.targets for by in MODELS for number in range(self.scale.training_seeds)]  # fmt: skip

        def fields() -> Mapping[str, Any]:
            # Those that there was nothing to train on are left out.
            there = {name: str(self._refiner(name)) for name in names if self._refiner(name).is_dir()}
            own = self._fields(model)
            return {
                **own, "evaluation.refiners": there, "evaluation.arms": [*own["evaluation.arms"], *there],
                "evaluation.seeds": self.scale.video_seeds, "evaluation.metric.init_args.asked": files.WRITTEN,
            }  # fmt: skip

        return self._make.command(f"evaluate-{model}", "evaluate", fields, self.run_folder(model))


def refiner_name(model: Model, targets: str, number: int) -> str:
    """Name of a model's refiner in the results, by training seed."""
    return f"{model}-{targets}.s{number}"


def write_in_tags(source: Path, column: str, target: Path) -> None:
    """Writes a CSV again with a column of captions as tags.

    Args:
        source: The CSV.
        column: The column.
        target: The file to write.

    Raises:
        UserError: If there is one that is no caption of the lab.
    """
    columns, rows = read_table(source, "The file of prompts")
    changed = [[in_tags(row[name]) if name == column else row[name] for name in columns] for row in rows]
    write_text(target, csv_text([columns, *changed]))
