"""Writes training pairs for the loop's rewriter: `python -m rapo_lightning.lab.scripts.corrections --out corrections.csv`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...data.csv_log import csv_text
from ...running.folder import write_text
from ..corrections import correction_pair
from .judging import Workers


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and writes `prompt, completion`, for `finetune --pairs`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    parser.add_argument("--count", type=int, default=30_000, help="pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    workers = Workers()
    pairs = workers(correction_pair, range(args.seed * 10_000_000, args.seed * 10_000_000 + args.count))
    workers.close()
    write_text(args.out, csv_text([("prompt", "completion"), *pairs]))
    print(f"{len(pairs)} pairs in {args.out}")


if __name__ == "__main__":
    main()
