"""Another video model: `python -m rapo_lightning.lab.scripts.transfer --out runs/transfer`.

Collects from two video models of the lab, trains refiners on each, and evaluates both models' refiners on both. What is done stays
done: run the same command again to go on. The second model comes from `lab.scripts.train_second_model`. See docs/study.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ...console import say
from ...errors import UserError
from ..study.runner import Deadline, run_steps
from ..study.scale import FULL, TINY
from ..study.transfer import PARTS, TARGETS, Transfer
from ..study.transfer_report import write_report


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="folder for all of it")
    parser.add_argument("--second", type=Path, default=None, help="the second model; default: OUT/video_model")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS), help="default: both")
    parser.add_argument("--recipe", default="", help="default: lab, with --tiny lab-quickstart")
    parser.add_argument("--tiny", action="store_true", help="a few prompts and one seed of everything")
    parser.add_argument("--prompts", type=int, default=0, help="prompts that are collected on")
    parser.add_argument("--seeds", type=int, default=0, help="trainings of each refiner")
    parser.add_argument("--minutes", type=float, default=0, help="ask the run to end after so many; 0: at the end")
    parser.add_argument("--allow_package", action="append", default=[], help="as the commands take it")
    parser.add_argument("--list", action="store_true", help="show the steps and do none")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and does what is left.

    Args:
        arguments: Arguments without the program's name; None takes the process's.

    Returns:
        0 if all is done, 2 for bad input, 1 if it ended before.
    """
    args = _arguments(arguments)
    scale = TINY if args.tiny else FULL
    count = args.prompts or scale.transfer
    scale = replace(scale, training_seeds=args.seeds or scale.training_seeds, transfer=count)
    options = [word for package in args.allow_package for word in ("--allow_package", package)]
    recipe = args.recipe or ("lab-quickstart" if args.tiny else "lab")
    try:
        transfer = Transfer(args.out, recipe, args.second or args.out / "video_model", scale, args.targets, options)
        steps = transfer.steps()
        if args.list:
            say("\n".join(f"{step.part:9} {step.name}" for step in steps))
            return 0
        with Deadline(args.minutes) as deadline:
            run_steps(steps, args.out, PARTS, deadline)
            say(f"the page is {write_report(transfer)}")
    except UserError as error:
        print(f"transfer: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("transfer: interrupted; run the same command again to go on.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
