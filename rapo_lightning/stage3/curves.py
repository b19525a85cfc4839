"""The learning curves of a training as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..running.folder import write_bytes, write_text
from .engines.metrics import joined_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "curves.png"
_RATE, _LOSSES = "lr", {"train_loss_step", "train_loss_epoch", "train_loss", "val_loss"}
_TRAINING, _VALIDATION, _FAINT = "#1f5f8b", "#c8553d", 0.35
_MOST = 6
"""Most further columns that get a panel."""

_FEW = 30
"""Most points that are marked one by one."""

Points = tuple[list[int], list[float]]
"""Optimizer steps and what was measured there."""


def write_metrics(trainings: Sequence[str], folder: Path, best: int) -> None:
    """Writes `metrics.csv`, the joined logs of trainings, and `curves.png`; nothing where nothing was logged.

    Args:
        trainings: Identities of the trainings, in order.
        folder: The run's folder.
        best: Epoch that is exported, from 1.

    Raises:
        RunError: If the disk is full or read-only.
    """
    metrics = joined_metrics(folder, trainings)
    if metrics:
        write_text(folder / "metrics.csv", metrics)
        write_curves(folder, metrics, best)


def write_curves(folder: Path, metrics: str, best: int) -> None:
    """Writes `curves.png`, whole: losses, learning rate, and a panel for each further column, over optimizer steps.

    Args:
        folder: The run's folder.
        metrics: Contents of its `metrics.csv`; without a loss in it nothing is written.
        best: Epoch that is exported, from 1; it is marked.

    Raises:
        RunError: If the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(csv.DictReader(io.StringIO(metrics)))
    # Of a chain the last part: the losses of the others are of another kind.
    last = max((row.get("phase") or "" for row in rows), default="")
    rows = [row for row in rows if (row.get("phase") or "") == last]
    columns = {name: _points(rows, name) for name in rows[0]} if rows else {}
    rates = [name for name in columns if name.startswith(_RATE)]
    further = [
        name for name in columns if name not in {*_LOSSES, *rates, "epoch", "step", "phase"} and columns[name][0]
    ]
    panels = [*rates[:1], *further[:_MOST]]
    if not any(columns.get(name, ([], []))[0] for name in _LOSSES):
        return
    figure = Figure(figsize=(8, 3.2 + 1.7 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = {"height_ratios": [2.0] + [1.0] * len(panels)}
    axes = figure.subplots(1 + len(panels), 1, sharex=True, squeeze=False, gridspec_kw=ratios)[:, 0]
    _draw_losses(axes[0], columns, _step_of(rows, best), best)
    for place, name in zip(axes[1:], panels, strict=True):
        color = _VALIDATION if name.startswith("val") else _TRAINING
        place.plot(
            *columns[name],
            color=color,
            marker="o" if len(columns[name][0]) <= _FEW else "",
            markersize=4,
            linewidth=1.2,
        )
        place.set_ylabel("learning rate" if name in rates else name, fontsize=9)
    axes[-1].set_xlabel("optimizer step")
    for place in axes:
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    write_bytes(folder / NAME, buffer.getvalue())


def _points(rows: list[dict[str, str]], name: str) -> Points:
    """A column's numbers, where it has any."""
    found = []
    for row in rows:
        try:
            found.append((int(row["step"]), float(row[name])))
        except (ValueError, TypeError):
            continue
    found.sort()
    return [step for step, _ in found], [value for _, value in found]


def _step_of(rows: list[dict[str, str]], epoch: int) -> int | None:
    """The last step of an epoch, that of its validation."""
    # Learning rates are logged without their epoch.
    steps = [int(row["step"]) for row in rows if row.get("epoch") == str(epoch - 1)]
    return max(steps, default=None)


def _draw_losses(axes: Axes, columns: dict[str, Points], best_step: int | None, best: int) -> None:
    nothing: Points = ([], [])
    axes.plot(
        *columns.get("train_loss_step", nothing), color=_TRAINING, alpha=_FAINT, linewidth=0.8, label="training, steps"
    )
    axes.plot(
        *columns.get("train_loss_epoch", nothing), color=_TRAINING, marker="o", markersize=4, label="training, epochs"
    )
    steps, losses = columns.get("val_loss", nothing)
    axes.plot(steps, losses, color=_VALIDATION, marker="o", markersize=4, label="validation")
    if best_step is not None:
        loss = dict(zip(steps, losses, strict=True)).get(best_step)
        told = f"exported: epoch {best}" + ("" if loss is None else f", {loss:.3f}")
        axes.axvline(best_step, color="0.4", linestyle=":", linewidth=1.2, label=told)
    axes.set_ylabel("loss")
    axes.legend(fontsize=8, frameon=False)
