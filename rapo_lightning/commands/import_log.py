"""`import`: trajectories of the authors' own script, judged by a recipe's verifiers."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..errors import UserError
from ..recipe import Recipe
from ..recipe.files import recipe_text


def import_log(recipe: Recipe, log: str, /, *, videos: str, out: str = "") -> Path:
    """Import the log of the authors' script as trajectories.

    The log has neither scores nor prompts: its videos are judged by the recipe's verifiers, and `--prompts` is the CSV that the
    script was given (`captions`, `phys_law`). Run again it goes on where it stopped. `finetune`, `report` and `export` take
    the run folder as they take one of `collect`.

    Args:
        recipe: The recipe; its video model is not used.
        log: CSV without a header: base name, iteration, video, mismatch, refined prompt.
        videos: Folder of the videos, which are found by their names.
        out: Run folder; default: runs/<recipe name>.

    Returns:
        The run folder.

    Raises:
        UserError: If log, videos, prompts or verifiers are not usable, or the run folder has collected trajectories.
    """
    from ..data.authors_log import read_log
    from ..data.prompts import read_all_prompts
    from ..data.trajectory import by_prompt, read_rows
    from ..recipe.verifiers import check_verifier_names
    from ..running.folder import locked, run_folder, save_recipe
    from ..stage2.imported import ImportedRound, Importer, rounds_identity
    from ..stage2.judges import open_judges

    prompts = read_all_prompts(recipe.prompts)
    logged, remarks = read_log(Path(log), prompts)
    wanted = {prompt.id for prompt in (prompts[: recipe.limit] if recipe.limit else prompts)}
    place = Path(videos)
    if not place.is_dir():
        raise UserError(f"`--videos` must name a folder. Got {videos!r}, which is none.")
    rounds = [ImportedRound(item, place / item.video) for item in logged if item.prompt.id in wanted]
    if not any(item.path.is_file() for item in rounds):
        raise UserError(
            f"`--videos` must have videos of the log. Got {videos!r}, with none of its {len(rounds)} rounds."
        )
    check_verifier_names(recipe)
    judges, models = open_judges(recipe)
    with locked(run_folder(recipe, out)) as folder:
        if any(row["seed"] is not None for row in read_rows(folder / "trajectories")):
            raise UserError(
                f"Imported trajectories need a run folder of their own. Got {folder}, which has collected ones; choose another "
                "`--out`."
            )
        for remark in remarks:
            say(remark)
        identity = rounds_identity(rounds, judges, recipe.stage2.flow_seconds)
        save_recipe(recipe_text(recipe), folder, "import", identity)
        importer = Importer(models, judges, folder, recipe.stage2.flow_seconds, recipe.stage2.save_videos)
        rows, faults = importer.run(rounds, identity, recipe.stage2.batch_size)
    for fault, count in faults.items():
        say(f"{count} rounds have no score: their video {fault}.")
    say(f"{len(rows)} rows of {len(by_prompt(rows))} prompts in {folder / 'trajectories'}")
    return folder
