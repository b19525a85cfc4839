"""Requests that were written by hand, with what they ask for: their words are more than `requests` knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..data.resources import find
from ..data.tables import stream_table
from ..errors import UserError
from .world import BACKGROUNDS, COLOURS, DIRECTED_MOTIONS, DIRECTIONS, DOUBLE_MOTIONS, MOTIONS, SHAPES, SIZES

Labels = Mapping[str, dict[str, str]]
"""What each request asks for, by its text; attributes by the keys of `requests.asked`."""
_BODY: dict[str, tuple[str, ...]] = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "size": tuple(SIZES)}
_VALUES: dict[str, tuple[str, ...]] = {
    **_BODY,
    **{f"{key}_2": values for key, values in _BODY.items()},
    "background": tuple(BACKGROUNDS),
    "motion": MOTIONS,
    "direction": DIRECTIONS,
}


def parse_asked(text: str) -> dict[str, str]:
    """Reads `shape=ball colour=orange motion=fall`.

    Args:
        text: Attributes by the lab's names for them, separated by blanks.

    Raises:
        UserError: If there is none, or an attribute or value that the lab has not, or they make no scene.
    """
    parts = [part.partition("=") for part in text.split()]
    wrong = [f"{key}{sign}{value}" for key, sign, value in parts if value not in _VALUES.get(key, ())]
    wanted = {key: value for key, _, value in parts}
    motion = wanted.get("motion", "")
    if not wrong and motion and (motion in DOUBLE_MOTIONS) != ("shape_2" in wanted):
        wrong = [f"motion={motion} with {'two bodies' if 'shape_2' in wanted else 'one body'}"]
    if not wrong and "direction" in wanted and motion not in DIRECTED_MOTIONS:
        wrong = [f"direction={wanted['direction']} with motion={motion or 'nothing'}"]
    if wrong or not wanted or len(wanted) < len(parts):
        raise UserError(
            "What a request asks for must be attributes of the lab, each once, such as `shape=ball colour=orange motion=fall`. "
            f"Got {text!r}{f' with {wrong[0]}' if wrong else ''}; correct it (docs/lab.md has the values)."
        )
    return wanted


def read_labels(source: str) -> Labels:
    """Reads a CSV with the columns `prompt` and `asked`; rows without the latter have no label.

    Args:
        source: Its path; the empty path has no labels.

    Raises:
        UserError: If it is missing, lacks a column, or an entry is wrong.
    """
    if not source:
        return {}
    path = find(source)
    if path is None:
        raise UserError(f"`asked` must name a CSV. Got {source!r}, which is not there; correct the path.")
    columns, rows = stream_table(Path(path), "The file of what requests ask for")
    if not {"prompt", "asked"} <= set(columns):
        raise UserError(
            f"The file of what requests ask for needs the columns `prompt` and `asked`. Got {columns} in {path}; add them."
        )
    return {row["prompt"].strip(): parse_asked(row["asked"]) for row in rows if row.get("asked", "").strip()}
