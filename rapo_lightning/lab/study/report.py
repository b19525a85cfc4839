"""From the evaluations of a study to `report.md` and its plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...running.folder import write_text
from ..labels import read_labels
from . import prompts as files
from .errors import count_errors, error_table
from .measures import Arm
from .plan import Plan
from .plots import bars, curve, forest
from .rows import read_run
from .runner import read_done
from .scale import Regime
from .settings import BEST, Setting
from .tables import Measured, attributes, differences, faithfulness, minus, scores, table

REFINER = "refiner"
"""Name of the best setting's refiner in the tables."""
_FIRST = ("raw", "style", "restated", "chance", "dictionary", "stage1", "rewriter")
_COMPARED = ("stage1", "dictionary", "sspo")
"""Arms that differences are taken from in the tables of scores, as far as they are there."""


def measure(plan: Plan, regime: Regime) -> Measured:
    """Reads the evaluations of a regime.

    Args:
        plan: The study.
        regime: The regime.

    Raises:
        UserError: If a part has not been evaluated.
    """
    prompts = files.held_out(plan.scale.group, plan.scale.written)
    found, costs = read_run(plan.run_folder(regime), prompts)
    arms = {_name(name): arm for name, arm in found.items()}
    if REFINER not in arms:
        raise UserError(
            f"The report compares with the best setting's refiner. Got no rows of it in {plan.run_folder(regime)}; run the part "
            "`evaluate`, or name another regime."
        )
    costs = {_name(name): cost for name, cost in costs.items()}
    if (best_of := plan.run_folder(regime, best_of=True)).is_dir():
        own, more = read_run(best_of, prompts)
        arms |= {_renamed(name): Arm(_renamed(name), arm.videos, arm.trainings) for name, arm in own.items()}
        costs |= {_renamed(name): cost for name, cost in more.items()}
    ids, groups = [prompt.id for prompt in prompts], [prompt.group for prompt in prompts]
    return Measured(arms, ids, groups, read_labels(files.WRITTEN), costs)


def _name(arm: str) -> str:
    return REFINER if arm == BEST else arm


def _renamed(arm: str) -> str:
    """The refiner's own answers run as `blind` in a folder of their own, the loop in which it writes as `sspo`."""
    return arm.replace("blind@", f"{REFINER}@").replace("sspo@", f"{REFINER}+sspo@")


def main_arms(measured: Measured) -> list[str]:
    """The arms of the first table, in its order."""
    loops = [name for name in measured.arms if "@" in name and not name.startswith(REFINER)]
    own = [name for name in measured.arms if name == REFINER or name.startswith((f"{REFINER}@", f"{REFINER}+"))]
    first = [name for name in _FIRST if name in measured.arms]
    return [name for name in (*first, *loops, *own, "reference") if name in measured.arms]


def write_report(plan: Plan) -> Path:
    """Writes `report.md`, `report.json` and the plots into the study's folder.

    Args:
        plan: The study.

    Returns:
        The page.

    Raises:
        UserError: If a part has not been evaluated.
    """
    pages, summaries = [_head(plan)], {}
    for regime in plan.regimes:
        measured = measure(plan, regime)
        main = main_arms(measured)
        summaries[regime] = measured.summary([*main, *(n for n in measured.arms if n not in main)], REFINER)
        pages.append(_regime(plan, regime, measured, summaries[regime], main))
    pages.append(times_table(plan.folder))
    write_text(plan.folder / "report.json", json.dumps(summaries, indent=2) + "\n")
    write_text(plan.folder / "report.md", "\n".join(pages))
    return plan.folder / "report.md"


def _head(plan: Plan) -> str:
    scale = plan.scale
    return (
        "# The study\n\n"
        f"At most {scale.group} held-out prompts of each group and {scale.written} hand-written ones, {scale.training_seeds} "
        f"trainings of `best` and `plain` and {scale.other_seeds} of each other setting, {scale.video_seeds} videos of each prompt and arm. A prompt's score is the mean over its "
        "trainings and videos; intervals are 95 % bootstrap intervals over prompts, so they do not say how far another three "
        "trainings would be off. Differences are paired by prompt.\n"
    )


def _regime(plan: Plan, regime: Regime, measured: Measured, summary: Mapping[str, Any], main: Sequence[str]) -> str:
    compared = [name for name in main if name.split("@")[0] in _COMPARED]
    groups: dict[str, Mapping[str, Any]] = {"all prompts": summary, **summary.get("groups", {})}
    shown = {name: _only(block, main) for name, block in groups.items() if block["arms"]}
    lines = [f"## Captions {regime}\n"]
    for name, block in shown.items():
        lines += [f"### {name.capitalize()}\n", scores(block, compared)]
    own = [name for name in main if name.startswith(REFINER)]
    pairs = [(REFINER, name) for name in main if name != REFINER]
    pairs += [(a, b) for a in own for b in own if "+" in a and "@" in b and "+" not in b]
    lines += ["### The refiner against each arm\n", differences(shown, pairs)]
    bars(shown, plan.folder / f"arms-{regime}.png")
    lines.append(f"![Scores by arm](arms-{regime}.png)\n")
    table_of = [item for item in plan.settings(regime) if _name(item.name) in measured.arms]
    lines += ["### One factor at a time\n", _factors(measured, groups, table_of), f"![Factors](factors-{regime}.png)\n"]
    others = {item.name: _name(item.against) for item in table_of if item.name != BEST}
    forest(
        summary,
        {name: other for name, other in others.items() if other in measured.arms},
        plan.folder / f"factors-{regime}.png",
    )
    missing = [item.name for item in plan.settings(regime) if item not in table_of]
    if missing:
        lines.append(f"Left out, since there was nothing to train on, or no training: {', '.join(missing)}.\n")
    sizes = [item for item in table_of if item.factor == "prompts"]
    points = {
        item.prompts[0]: _name(item.name)
        for item in table_of
        if item in sizes or item.name in {one.against for one in sizes}
    }
    if len(points) > 1:
        curve(groups, dict(sorted(points.items())), plan.folder / f"prompts-{regime}.png")
        lines.append(f"![Gap closure by prompts collected on](prompts-{regime}.png)\n")
    spoken = [*main, *(item.name for item in table_of if item.name != BEST and item.name not in main)]
    parts = {"all prompts": "", **{name: name for name in summary.get("groups", {})}}
    for title, group in parts.items():
        lines += [f"### What texts name of what was asked, {title}\n", faithfulness(measured, spoken, group)]
        lines += [f"### What videos show of what was asked, {title}\n", attributes(measured, main, group)]
        errors = count_errors(measured.arms[REFINER], measured.part(group), measured.labels)
        lines += [f"### Where the score of `{REFINER}` is lost, {title}\n", error_table(errors)]
    return "\n".join(lines)


def _only(block: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A block with some of its arms."""
    return {**block, "arms": {name: block["arms"][name] for name in names if name in block["arms"]}}


def _factors(measured: Measured, groups: Mapping[str, Mapping[str, Any]], table_of: Sequence[Setting]) -> str:
    """Each setting with its score and its paired difference to the one that it is compared with, of all prompts and by group."""
    head = [
        "factor",
        "setting",
        "score",
        "by training",
        "compared with",
        *(f"minus that, {name}" for name in groups),
        "minus `raw`",
    ]
    rows = []
    for item in table_of:
        name, whole = _name(item.name), next(iter(groups.values()))
        arm = whole["arms"][name]
        score = f"{arm['mean']:.3f} [{arm['ci95'][0]:.3f}, {arm['ci95'][1]:.3f}]"
        trainings = ", ".join(f"{mean:.3f}" for mean in measured.arms[name].by_training())
        other = _name(item.against) if item.name != BEST else ""
        apart = [minus(block, name, other) for block in groups.values()]
        rows.append([item.factor, item.name, score, trainings, other, *apart, minus(whole, name, "raw")])
    return table(head, rows)


def times_table(folder: Path) -> str:
    """Minutes of the steps that are done, by command; nothing where none was done here."""
    spent: dict[str, float] = {}
    for name, step in read_done(folder).items():
        verb = name.partition("-")[0]
        spent[verb] = spent.get(verb, 0.0) + float(str(step["seconds"])) / 60
    if not spent:
        return ""
    rows = [[verb, f"{minutes:.1f}"] for verb, minutes in spent.items()]
    return "## Wall time\n\n" + table(["steps", "minutes"], [*rows, ["all", f"{sum(spent.values()):.1f}"]])
