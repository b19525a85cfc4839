"""`refine`: the trained refiner on one prompt or, file to file, on as many as there are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..data.resources import find_shipped
from ..errors import UserError
from ..recipe import Recipe

if TYPE_CHECKING:
    from ..models.refiner import Refiner
    from ..prompting.answers import Refined

_SHIPPED = {("lab", "lab/video_model"): "ckpt/lab/refiner"}
"""Refiners that come with the project, by the recipe's name and its video model."""


def refiner_folder(recipe: Recipe, out: str) -> Path:
    """Folder of a run's refiner; the shipped lab recipe may take the shipped one, and says so.

    Args:
        recipe: The recipe.
        out: The run's folder as the user named it, empty if not; a folder that is named must have a refiner of its own.

    Raises:
        UserError: If there is none.
    """
    from ..running.folder import run_folder

    own = run_folder(recipe, out) / "refiner"
    if own.is_dir():
        return own
    checkpoint = str(recipe.video_model.get("init_args", {}).get("checkpoint", ""))
    shipped = _SHIPPED.get((recipe.name, checkpoint), "")
    found = find_shipped(shipped) if shipped and not out else None
    if found is None:
        raise UserError(
            f"The run needs a refiner. Got {own.parent}, which has no folder `refiner`; run `finetune` with the same recipe "
            "and `--out` first, or name the run's folder with `--out`."
        )
    say(f"{own.parent} has no refiner of its own: the shipped {shipped} is used.", error=True)
    return found


def refine(
    recipe: Recipe,
    prompt: str = "",
    /,
    *,
    out: str = "",
    input: str = "",
    output: str = "",
    candidates: int = 1,
    faithfulness: float | None = None,
) -> None:
    """Let the trained refiner rewrite one prompt or a file.

    Prints the refined prompt, or writes a CSV `prompt, refined, reason, refiner` with a row for each prompt of the file, in its
    order. Where no answer can be used the prompt stays, and `reason` says why. Run again it goes on where it stopped.

    Args:
        recipe: The recipe.
        prompt: The prompt to refine.
        out: Run folder; default: runs/<recipe name>.
        input: File of prompts to refine.
        output: CSV to write; default: <input>.refined.csv in the working directory.
        candidates: Answers per prompt, of which the nearest to the prompt is taken, by the recipe's embedder.
        faithfulness: Least cosine of prompt and answer by the recipe's embedder; default: 0.3 with several candidates, else it
            is not looked at.

    Raises:
        UserError: If neither or both are given, there is no refiner, or the CSV is another refiner's or another file's.
    """
    from ..data.prompts import checked_text, stream_prompts
    from ..running.refining import refine_file

    if bool(prompt) == bool(input):
        raise UserError(f"`refine` takes one prompt or `--input FILE`. Got {prompt!r} and {input!r}.")
    if faithfulness is not None and not -1 <= faithfulness <= 1:
        raise UserError(f"`--faithfulness` is a cosine, from -1 to 1. Got {faithfulness}; choose one, such as 0.3.")
    if prompt:
        text = checked_text(prompt, "the command line")
        (found,) = _open(recipe, out, candidates, faithfulness).refine([text])
        print(found.refined)
        _say_reason(found)
        return
    target, total = _target(input, output), sum(1 for _ in stream_prompts(input, "--input"))
    reasons = refine_file(_open(recipe, out, candidates, faithfulness), input, target, total)
    print(_summary(reasons, target))


def _open(recipe: Recipe, out: str, candidates: int, faithfulness: float | None) -> Refiner:
    """The run's refiner with its models fetched and compared, none of them loaded."""
    from ..models import ModelPool
    from ..models.faithfulness import FAITHFUL
    from ..recipe.components import build
    from ..running.pool import fetch_models, open_refiner

    judged = candidates != 1 or faithfulness is not None
    embedder = build(recipe.embedder, "embedder") if judged else None
    threshold = FAITHFUL if faithfulness is None else faithfulness
    refiner = open_refiner(
        refiner_folder(recipe, out), recipe, ModelPool(), alone=True, candidates=candidates, faithfulness=embedder,
        threshold=threshold,
    )  # fmt: skip
    fetch_models(recipe, ("language_model", "embedder") if judged else ("language_model",))
    refiner.check_base()
    return refiner


def _say_reason(found: Refined) -> None:
    from ..prompting.answers import REASONS

    if found.reason:
        stays = " The prompt stays as it is." if found.fell_back else ""
        say(f"{found.reason}: {REASONS[found.reason]}.{stays}", error=True)


def _target(input: str, output: str) -> Path:
    """The CSV to write.

    Raises:
        UserError: If it is the input.
    """
    target = Path(output or Path(input).with_suffix(".refined.csv").name)
    if target.exists() and Path(input).exists() and target.samefile(input):
        raise UserError(
            f"`--output` must be another file than `--input`. Got {str(target)!r} for both; choose another name."
        )
    return target


def _summary(reasons: Counter[str], target: Path) -> str:
    """What became of the prompts of a file, in one line."""
    cut = reasons["cut"]
    kept = {reason: count for reason, count in sorted(reasons.items()) if reason not in ("", "cut")}
    stay = f"{sum(kept.values())} as they were" + (
        f" ({', '.join(f'{reason} {count}' for reason, count in kept.items())})" if kept else ""
    )
    return f"{reasons.total()} prompts in {target}: {reasons[''] + cut} refined ({cut} of them cut), {stay}"
