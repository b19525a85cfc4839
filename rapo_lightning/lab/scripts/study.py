"""Runs the study: `python -m rapo_lightning.lab.scripts.study --out runs/study`.

What is done stays done: run the same command again to go on. `--minutes 10` ends by itself, `--tiny` runs all of it on two CPU
cores, to see that it works. See docs/study.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from ...console import say
from ...errors import UserError
from ..study.plan import PARTS, Plan
from ..study.report import write_report
from ..study.runner import Deadline, run_steps
from ..study.scale import FULL, REGIMES, TINY
from ..study.steps import Step


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="the study's folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all, in this order")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES), help="default: both")
    parser.add_argument("--settings", nargs="+", default=[], help="names of settings, such as `best`; default: all")
    parser.add_argument(
        "--steps", nargs="+", default=[], help="names of steps, such as `evaluate-known-*`; default: all"
    )
    parser.add_argument("--recipe", default="", help="default: lab, with --tiny lab-quickstart")
    parser.add_argument("--tiny", action="store_true", help="a few prompts and one seed of everything")
    parser.add_argument("--seeds", type=int, default=0, help="trainings of the best setting")
    parser.add_argument("--other_seeds", type=int, default=0, help="trainings of each other setting")
    parser.add_argument("--minutes", type=float, default=0, help="ask the run to end after so many; 0: at the end")
    parser.add_argument("--allow_package", action="append", default=[], help="as the commands take it")
    parser.add_argument("--list", action="store_true", help="show the steps and do none")
    return parser.parse_args(arguments)


def _named(steps: Sequence[Step], patterns: Sequence[str]) -> list[Step]:
    """The steps whose names match one of the patterns; all without a pattern.

    Raises:
        UserError: If a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatch(step.name, pattern) for step in steps):
            raise UserError(f"`--steps` must name steps of the study. Got {pattern!r}; `--list` shows the names.")
    return [step for step in steps if not patterns or any(fnmatch(step.name, pattern) for pattern in patterns)]


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and does what is left.

    Args:
        arguments: Arguments without the program's name; None takes the process's.

    Returns:
        0 if all that was asked for is done, 2 for bad input, 1 if it ended before.
    """
    args = _arguments(arguments)
    scale = TINY if args.tiny else FULL
    scale = replace(
        scale,
        training_seeds=args.seeds or scale.training_seeds,
        other_seeds=args.other_seeds or scale.other_seeds,
    )
    options = [word for package in args.allow_package for word in ("--allow_package", package)]
    try:
        recipe = args.recipe or ("lab-quickstart" if args.tiny else "lab")
        plan = Plan(args.out, recipe, scale, args.regimes, options, args.settings)
        steps = _named(plan.steps(), args.steps)
        if args.list:
            say("\n".join(f"{step.part:9} {step.name}" for step in steps))
            return 0
        with Deadline(args.minutes) as deadline:
            run_steps(steps, args.out, args.parts, deadline)
            if "report" in args.parts:
                say(f"the report is {write_report(plan)}")
    except UserError as error:
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("study: interrupted; run the same command again to go on.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
