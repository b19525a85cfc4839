"""Draws the neighbourhood of a place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .graph import GraphError, RelationGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HUB = "#54a24b"
_COLOURS = {"verb_object": "#4c78a8", "scenario": "#f58518"}
_WRAP = 24


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, _WRAP)[:4])


def draw_neighbourhood(graph: RelationGraph, place: int, target: Path, limit: int = 18) -> None:
    """Draws a place with its most frequent modifiers; lines are the thicker the more captions link them.

    Args:
        graph: The graph.
        place: Number of the place.
        target: PNG or SVG to write.
        limit: Most modifiers to draw.

    Raises:
        GraphError: If `target` is of another type or cannot be written.
    """
    if target.suffix.lower() not in (".png", ".svg"):
        raise GraphError(f"A neighbourhood is drawn as PNG or SVG. Got {str(target)!r}; end it with .png or .svg.")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 9))
    _draw(axes, graph, place, limit)
    try:
        figure.savefig(target, dpi=130, bbox_inches="tight")
    except OSError as error:
        raise GraphError(f"The drawing cannot be written to {target}: {error.strerror}.") from error
    finally:
        pyplot.close(figure)


def _draw(axes: Axes, graph: RelationGraph, place: int, limit: int) -> None:
    import networkx

    hub, drawn = ("place", graph.places.phrase(place)), networkx.Graph()
    drawn.add_node(hub)
    for kind, phrase, count in list(graph.neighbours(place))[:limit]:
        drawn.add_edge(hub, (kind, phrase), weight=count)
    ring = [node for node in drawn if node != hub]
    positions = networkx.circular_layout(ring) if ring else {}
    positions[hub] = (0.0, 0.0)
    heaviest = max((data["weight"] for _, _, data in drawn.edges(data=True)), default=1)
    widths = [0.6 + 4.4 * data["weight"] / heaviest for _, _, data in drawn.edges(data=True)]
    networkx.draw_networkx_edges(drawn, positions, ax=axes, width=widths, edge_color="#b0b0b0")
    colours = [_HUB if node == hub else _COLOURS[node[0]] for node in drawn]
    sizes = [500 if node == hub else 120 for node in drawn]
    networkx.draw_networkx_nodes(drawn, positions, ax=axes, node_color=colours, node_size=sizes)
    for node, (x, y) in positions.items():
        _write_label(axes, node[1], x, y, node == hub)
    _write_legend(axes)
    axes.set_axis_off()
    axes.margins(0.28, 0.12)


def _write_label(axes: Axes, phrase: str, x: float, y: float, is_hub: bool) -> None:
    out = (0.0, -0.1) if is_hub else (x * 1.08, y * 1.08)
    side = "center" if abs(x) < 0.05 else "left" if x > 0 else "right"
    # At the top and bottom, labels stand beyond the ring, so that they miss those of the next nodes.
    end = "bottom" if y > 0.9 else "top" if y < -0.9 else "center"
    axes.text(out[0], out[1], _wrapped(phrase), fontsize=11 if is_hub else 8, ha=side, va=end,
              weight="bold" if is_hub else "normal")  # fmt: skip


def _write_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=label)
        for label, colour in (("place", _HUB), *((k.replace("_", "-"), c) for k, c in _COLOURS.items()))
    ]
    axes.legend(handles=handles, loc="lower right", frameon=False)
