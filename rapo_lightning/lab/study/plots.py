"""The study's plots."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...running.folder import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Blocks = Mapping[str, Mapping[str, Any]]
"""Blocks of `Measured.summary` by what prompts they are of."""
_COLOURS = ("#1f5f8b", "#c8553d", "#6b9e54", "#8b6fae")
_LABEL = 8
_NEAR = 0.03
_TICKS = (0.01, 0.03, 0.1, 0.3, 1.0)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _write(figure: Figure, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_bytes(path, image.getvalue())


def _reach(mean: float, ends: Sequence[float]) -> list[list[float]]:
    return [[max(0.0, mean - ends[0])], [max(0.0, ends[1] - mean)]]


def bars(blocks: Blocks, path: Path) -> None:
    """Scores with their intervals, arms beside each other, a colour for each group of prompts.

    Args:
        blocks: What is shown.
        path: The picture to write.
    """
    names = list(next(iter(blocks.values()))["arms"])
    figure, axes = _figure(1.5 + 0.8 * len(names), 4)
    width = 0.8 / len(blocks)
    for number, (title, block) in enumerate(blocks.items()):
        means = [block["arms"][name]["mean"] for name in names]
        reach = np.hstack([_reach(block["arms"][n]["mean"], block["arms"][n]["ci95"]) for n in names])
        places = np.arange(len(names)) + (number + 0.5) * width - 0.4
        axes.bar(places, means, width, yerr=reach, color=_COLOURS[number % len(_COLOURS)], label=title, capsize=2)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=_LABEL)
    axes.set_ylabel("score")
    axes.set_ylim(0, 1.05)
    axes.legend(fontsize=_LABEL)
    _write(figure, path)


def forest(block: Mapping[str, Any], compared: Mapping[str, str], path: Path) -> None:
    """Paired differences of arms, with their intervals.

    Args:
        block: Where they are.
        compared: What each arm is compared with.
        path: The picture to write.
    """
    figure, axes = _figure(6, 1 + 0.3 * len(compared))
    pairs = list(compared.items())[::-1]
    for place, (name, other) in enumerate(pairs):
        found, sign = block["paired"].get(f"{name} - {other}"), 1
        if found is None:
            found, sign = block["paired"][f"{other} - {name}"], -1
        mean, ends = sign * found["mean"], sorted(sign * end for end in found["ci95"])
        axes.errorbar(mean, place, xerr=_reach(mean, ends), fmt="o", color=_COLOURS[0], capsize=3)
    # Controls are far off, and most settings are near each other.
    axes.set_xscale("symlog", linthresh=_NEAR)
    ticks = [*(-size for size in reversed(_TICKS)), 0, *_TICKS]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=_LABEL)
    axes.axvline(0, color="grey", linewidth=0.8)
    labels = [f"{name} minus {other}" for name, other in pairs]
    axes.set_yticks(range(len(labels)), labels, fontsize=_LABEL)
    axes.set_xlabel(f"difference of scores, logarithmic beyond {_NEAR:g}")
    _write(figure, path)


def curve(blocks: Blocks, points: Mapping[int, str], path: Path) -> None:
    """Gap closure over the prompts that were collected on, a line for each group of prompts.

    Args:
        blocks: Where the gap closures are.
        points: Arms by number of prompts, in order.
        path: The picture to write.
    """
    figure, axes = _figure(6, 4)
    for number, (title, block) in enumerate(blocks.items()):
        there = {size: name for size, name in points.items() if name in block["gap_closure"]}
        means = [block["gap_closure"][name] for name in there.values()]
        ends = [block["gap_closure_ci95"][name] for name in there.values()]
        if there:
            reach = np.hstack([_reach(mean, pair) for mean, pair in zip(means, ends, strict=True)])
            axes.errorbar(
                list(there),
                means,
                yerr=reach,
                marker="o",
                capsize=3,
                label=title,
                color=_COLOURS[number % len(_COLOURS)],
            )
    axes.set_xscale("log")
    axes.set_xticks(list(points), [str(size) for size in points])
    axes.minorticks_off()
    axes.set_xlabel("prompts collected on")
    axes.set_ylabel("gap closure")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=_LABEL)
    _write(figure, path)


def agreements(lines: Mapping[str, Mapping[str, tuple[float, float, float]]], path: Path) -> None:
    """Rank correlations over the number of denoising steps, a line for each judge, what is no number of steps as a level.

    Args:
        lines: For each judge mean, lower and upper end by number of steps, or by the name of a control.
        path: The picture to write.
    """
    figure, axes = _figure(6, 4)
    for number, (title, points) in enumerate(lines.items()):
        there = {int(name): point for name, point in points.items() if name.isdigit() and np.isfinite(point[0])}
        colour = _COLOURS[number % len(_COLOURS)]
        if there:
            reach = np.hstack([_reach(mean, ends) for mean, *ends in there.values()])
            means = [mean for mean, *_ in there.values()]
            axes.errorbar(list(there), means, yerr=reach, marker="o", capsize=3, label=title, color=colour)
            axes.set_xticks(list(there))
        for name, point in points.items():
            if not name.isdigit() and np.isfinite(point[0]):
                axes.axhline(point[0], color=colour, linestyle=":", label=f"{title}, {name}")
    axes.set_xlabel("denoising steps")
    axes.set_ylabel("rank correlation with all steps, other noise")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=_LABEL)
    _write(figure, path)
