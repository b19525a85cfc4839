"""What refiners' texts name of what is asked for: `python -m rapo_lightning.lab.scripts.texts runs/lab/refiner ckpt/lab/rewriter`.

Each refiner's own answer to each request is read in the captions' words; no video is made. By it settings are chosen before videos
are made, on requests whose words nothing was trained on. `--out texts.csv` keeps the texts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...console import say
from ...data.csv_log import csv_text
from ...data.prompts import Prompt, read_prompts
from ...errors import UserError
from ...evaluation.statistics import ratio_interval
from ...models.refiner import Refiner
from ...running.folder import write_text
from ..labels import Labels, read_labels
from ..reading import translated
from ..study.prompts import WRITTEN
from ..study.tables import table

VALIDATION = "recipes/lab/prompts_validation.csv"
"""Requests by which settings are chosen; the held-out ones are for results alone."""
HEAD = ("refiner", "requests", "named", "whole", "of")


def read_texts(
    refine: Callable[[list[str]], Sequence[str]], prompts: Sequence[Prompt], labels: Labels, batch_size: int = 64
) -> list[tuple[Prompt, str, dict[str, bool]]]:
    """A text of each request, and for each attribute asked for whether the text names it right, and nothing else instead.

    Args:
        refine: Makes texts of requests.
        prompts: The requests.
        labels: What they ask for, where it was written down; all others are read.
        batch_size: Requests at a time; those of like length go together.
    """
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place].text))
    texts: dict[int, str] = {}
    for begin in range(0, len(order), batch_size):
        places = order[begin : begin + batch_size]
        texts |= zip(places, refine([prompts[place].text for place in places]), strict=True)
    return [
        (prompt, texts[place], translated(prompt.text, texts[place], labels.get(prompt.text.strip())))
        for place, prompt in enumerate(prompts)
    ]


def row(name: str, group: str, found: Sequence[dict[str, bool]]) -> list[str]:
    """Share of the attributes that are named right, with its interval over requests, and share of requests of which all are."""
    right, asked = np.array([sum(item.values()) for item in found]), np.array([len(item) for item in found])
    low, high = ratio_interval(right, asked)
    whole = np.mean(right == asked)
    return [name, group, f"{right.sum() / asked.sum():.3f} [{low:.3f}, {high:.3f}]", f"{whole:.3f}", str(len(found))]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("refiners", nargs="+", type=Path, help="refiner folders")
    parser.add_argument("--prompts", nargs="+", default=[VALIDATION, WRITTEN], help="CSV files with the requests")
    parser.add_argument(
        "--asked", default=WRITTEN, help="CSV with the columns `prompt` and `asked`; other requests are read"
    )
    parser.add_argument("--limit", type=int, default=0, help="requests of each file; 0: all")
    parser.add_argument("--out", type=Path, help="CSV for the texts")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and prints a table.

    Args:
        arguments: Arguments without the program's name; None takes the process's.

    Returns:
        0, or 2 for bad input.
    """
    args = _arguments(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        labels = read_labels(args.asked)
        prompts = [(Path(name).stem, item) for name in args.prompts for item in read_prompts(name, args.limit)]
        opened = [(str(folder), Refiner.from_pretrained(folder, device=device)) for folder in args.refiners]
        rows, kept = [], [("refiner", "group", "prompt", "text", "right", "asked")]
        for name, refine in opened:
            groups: dict[str, list[Prompt]] = {}
            for stem, prompt in prompts:
                groups.setdefault(prompt.group or stem, []).append(prompt)
            for group, part in groups.items():
                found = read_texts(refine, part, labels)
                rows.append(row(name, group, [right for _, _, right in found]))
                kept += [(name, group, p.text, text, str(sum(r.values())), str(len(r))) for p, text, r in found]
        say(table(HEAD, rows))
        if args.out:
            write_text(args.out, csv_text(kept))
    except UserError as error:
        print(f"texts: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
