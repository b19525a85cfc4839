"""Draft videos: whether a text that wins with few denoising steps wins with all of them.

`python -m rapo_lightning.lab.scripts.drafts --out runs/drafts` makes videos of several texts of each prompt with each number of
steps, from the same noise, and writes `readings.csv`, `report.md` and `drafts.png`. What is made stays made: run the same command
again to go on. `--minutes 10` ends by itself. See docs/study.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ...console import say
from ...data.prompts import read_prompts
from ...errors import UserError
from ...recipe.files import load_recipe, recipe_path
from ...recipe.identity import named
from ...running.folder import write_text
from ..study.draft_statistics import (
    JUDGE,
    ORACLE,
    Drafts,
    agreement_table,
    compared,
    mean_table,
    same_noise,
)
from ..study.draft_texts import KINDS
from ..study.plots import agreements
from .draft_videos import Bench, Job, make_all, read_drafts, texts_of

VALIDATION = "recipes/lab/prompts_validation.csv"
_RANKINGS = ((ORACLE, ORACLE), (JUDGE, JUDGE), (JUDGE, ORACLE))
"""Who ranks with few steps, and who with all."""


def _sections(drafts: Drafts, title: str) -> Iterator[str]:
    for by, truth in _RANKINGS:
        yield f"## {title}: {by} with few steps, {truth} with {drafts.steps[-1]} and other noise\n"
        yield agreement_table(compared(drafts, by, truth))
        if by == truth:
            yield f"With the same noise:\n\n{agreement_table(same_noise(drafts, by))}"


def write_report(drafts: Drafts, kinds: Sequence[str], out: Path, settings: dict[str, object]) -> None:
    """Writes `report.md` and `drafts.png`."""
    prompts, _, seeds = next(iter(drafts.scores[ORACLE].values())).shape
    lines = [
        "# Draft videos\n",
        f"{prompts} prompts, {len(kinds)} texts and {seeds} videos of each; {json.dumps(settings)}. Intervals are 95 % bootstrap "
        "intervals over prompts. With the most steps the row is the ceiling: the same steps, other noise.\n",
        mean_table(drafts, kinds),
        *_sections(drafts, "All texts"),
    ]
    others = [place for place, kind in enumerate(kinds) if kind != "raw"]
    if 1 < len(others) < len(kinds):
        part = {
            by: {count: values[:, others] for count, values in found.items()} for by, found in drafts.scores.items()
        }
        lines += _sections(Drafts(part, drafts.seconds), "Without the raw prompt")
    write_text(out / "report.md", "\n".join(lines))
    found = {f"{by}, {truth} with all" if by != truth else by: compared(drafts, by, truth) for by, truth in _RANKINGS}
    drawn = {
        title: {name: (item.correlation, *item.correlation_ends) for name, item in points.items()}
        for title, points in found.items()
    }
    agreements(drawn, out / "drafts.png")


def _keep_settings(out: Path, settings: dict[str, object]) -> None:
    """Notes what all videos are made with; a folder with another note is refused."""
    path = out / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise UserError(
            f"{out} is to be continued with the same settings. Got others than in {path}; choose another `--out`."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=2) + "\n")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/drafts"))
    parser.add_argument("--recipe", default="lab", help="its video model, metric and judge are used")
    parser.add_argument("--source", default=VALIDATION, help="prompts with references")
    parser.add_argument("--prompts", type=int, default=120, help="so many, from the first on")
    parser.add_argument("--candidates", type=int, default=5, help=f"texts of each, of {', '.join(KINDS)}")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 6, 10, 25])
    parser.add_argument("--seeds", type=int, default=2, help="videos of each text and number of steps, at least 2")
    parser.add_argument("--judge", default="vlm_alignment", help="a verifier of the recipe's loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0, help="end after so many; 0: at the end")
    parser.add_argument("--report", action="store_true", help="make no video, report what is there")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> None:
    """Makes what is missing, and reports.

    Raises:
        UserError: If an argument is not usable.
        RunError: If the time is over.
    """
    steps, kinds = sorted(set(args.steps)), KINDS[: args.candidates]
    if args.seeds < 2 or len(steps) < 2 or steps[0] < 1:
        raise UserError(
            f"Draft videos need two seeds and two numbers of steps. Got {args.seeds} and {steps}; name more."
        )
    recipe = load_recipe(recipe_path(args.recipe))
    verifiers = [named(item) for item in recipe.stage2.verifiers]
    settings: dict[str, object] = {
        "video_model": str(named(recipe.video_model)), "metric": str(named(recipe.evaluation.metric)), "judge": args.judge,
        "verifiers": str(verifiers), "seed": args.seed,
    }  # fmt: skip
    if not args.report:
        bench = Bench(recipe, args.judge, args.seed)
        prompts = read_prompts(args.source, args.prompts)
        _keep_settings(args.out, settings)
        bench.place()
        texts = texts_of(bench, prompts, kinds, args.out)
        of_prompt = [[Job(prompt, kind, text, number) for kind, text in zip(kinds, texts[prompt.id], strict=True)
                      for number in range(args.seeds)] for prompt in prompts]  # fmt: skip
        size = max(1, bench.models.video.batch_size // (len(kinds) * args.seeds))
        chunks = [sum(of_prompt[begin : begin + size], []) for begin in range(0, len(of_prompt), size)]
        make_all(bench, chunks, steps, args.out, args.minutes)
    shown = {"judge": args.judge, "seed": args.seed, "device": _device()}
    write_report(read_drafts(args.out, kinds, steps, args.seeds), kinds, args.out, shown)
    say(f"the report is {args.out / 'report.md'}")


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, makes videos and reports.

    Args:
        arguments: Arguments without the program's name; None takes the process's.

    Returns:
        0 if all is done, 2 for bad input, 1 if it ended before.
    """
    try:
        run(_arguments(arguments))
    except UserError as error:
        print(f"drafts: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("drafts: interrupted; run the same command again to go on.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
