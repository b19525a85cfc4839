"""Failures for a reading by eye: which are drawn, the CSV that is filled in, and how far it bears out the causes."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from ...data.csv_log import csv_text
from ...data.tables import read_table
from ...errors import UserError
from ...running.folder import write_text
from ..labels import Labels
from ..requests import asked
from .errors import CAUSES, Miss
from .tables import table

BY_EYE = "by_eye"
OTHER_CAUSES = ("oracle wrong", "request unclear")
"""What an eye may find beside `CAUSES`: the video shows what was asked for, or the request can be read in another way."""
COLUMNS = (
    "number", "prompt_id", "wording", "attribute", "asked", "cause", BY_EYE, "score", "score_again", "request", "text",
    "critique", "seed", "arm",
)  # fmt: skip


def draw_failures(found: Sequence[Miss], count: int, seed: int) -> list[Miss]:
    """Draws failures of different prompts: from each wording and cause by its share, the worst videos first.

    Args:
        found: What is missed.
        count: How many; fewer where there are not so many prompts.
        seed: Decides between equally bad videos.

    Returns:
        The failures, cause by cause.
    """
    mixed = sorted(found, key=lambda miss: (miss.video.prompt_id, miss.video.arm, miss.video.seed, miss.attribute))
    random.Random(seed).shuffle(mixed)
    strata: dict[tuple[str, str], list[Miss]] = defaultdict(list)
    for miss in sorted(mixed, key=lambda miss: miss.video.score):
        strata[miss.video.group, miss.cause].append(miss)
    sizes, taken = {key: len(part) for key, part in strata.items()}, dict.fromkeys(strata, 0)
    chosen, seen = list[Miss](), set[str]()
    while len(chosen) < count and any(strata.values()):
        # Whoever is furthest behind its share; a stratum without any comes first.
        key = min(
            (key for key, part in strata.items() if part), key=lambda key: (taken[key] > 0, taken[key] / sizes[key])
        )
        miss = strata[key].pop(0)
        if miss.video.prompt_id not in seen:
            seen.add(miss.video.prompt_id)
            chosen.append(miss)
            taken[key] += 1
    return sorted(chosen, key=lambda miss: (CAUSES.index(miss.cause), miss.video.group, miss.video.score))


def asked_for(miss: Miss, labels: Labels) -> str:
    """The value that was asked for; empty for a fault."""
    return (labels.get(miss.video.prompt) or asked(miss.video.prompt)).get(miss.attribute, "")


def refuse_filled(path: Path) -> None:
    """Checks that readings are not written over once one of them is filled in.

    Raises:
        UserError: If one is.
    """
    if path.is_file() and any(row.get(BY_EYE, "").strip() for row in read_table(path, "The readings")[1]):
        raise UserError(
            f"Readings that are filled in are not written over. Got some in {path}; count them with `--count`, or name another `--out`."
        )


def write_readings(path: Path, drawn: Sequence[Miss], again: Sequence[float | None], labels: Labels) -> None:
    """Writes the CSV with an empty column `by_eye`.

    Args:
        path: The file.
        drawn: The failures.
        again: The score of each video made anew; None where it is not known.
        labels: What hand-written requests ask for.
    """
    rows = []
    for number, (miss, score) in enumerate(zip(drawn, again, strict=True), 1):
        video = miss.video
        told = ["" if value is None else f"{value:.3g}" for value in (video.score, score)]
        rows.append([number, video.prompt_id, video.group, miss.attribute, asked_for(miss, labels), miss.cause, "", *told,
                     video.prompt, video.text, video.critique, video.seed, video.arm])  # fmt: skip
    write_text(path, csv_text([COLUMNS, *rows]))


def count_readings(path: Path) -> str:
    """Causes by eye against the causes that were told from the texts, as markdown.

    Args:
        path: The CSV, with `by_eye` filled in by one of `CAUSES` or `OTHER_CAUSES`; rows without are left out and counted.

    Raises:
        UserError: If the file is missing, has no column `by_eye`, nothing is filled in, or something else is.
    """
    columns, rows = read_table(path, "The readings")
    if not {"cause", BY_EYE} <= set(columns):
        raise UserError(
            f"Readings need the columns `cause` and `{BY_EYE}`. Got {columns} in {path}; take the file of `--sheet`."
        )
    pairs = [(row["cause"], row[BY_EYE].strip().lower()) for row in rows if row[BY_EYE].strip()]
    allowed = (*CAUSES, *OTHER_CAUSES)
    wrong = [eye for _, eye in pairs if eye not in allowed]
    if wrong or not pairs:
        raise UserError(
            f"`{BY_EYE}` must be one of {', '.join(allowed)}. Got {wrong[0]!r} in {path}; correct it."
            if wrong
            else f"`{BY_EYE}` must be filled in. Got no row with it in {path}; write a cause into some."
        )
    counts = Counter(pairs)
    body = [[eye, *(str(counts[cause, eye]) for cause in CAUSES), str(sum(counts[cause, eye] for cause in CAUSES))]
            for eye in allowed if any(counts[cause, eye] for cause in CAUSES)]  # fmt: skip
    same = sum(cause == eye for cause, eye in pairs)
    return (
        table(["by eye", *(f"told: {cause}" for cause in CAUSES), "all"], body)
        + f"\n{same} of {len(pairs)} readings are the cause that was told; {len(rows) - len(pairs)} rows are not filled in.\n"
    )
