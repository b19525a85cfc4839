"""`score`: a recipe's verifiers on videos of the user's own."""

from __future__ import annotations

from pathlib import Path

from ..console import say
from ..errors import UserError
from ..recipe import Recipe

_TABLE = "prompts.csv"


def score(recipe: Recipe, *, videos: str, table: str = "", output: str = "") -> None:
    """Score videos of your own with the recipe's verifiers.

    Writes a CSV with a row for each video: its scores, and what the verifiers say. A half-written one of the same verifiers is
    continued.

    Args:
        recipe: The recipe; its video model is not used.
        videos: Folder of the videos.
        table: CSV with the columns `video`, `prompt` and, if there are laws, `phys_law`; default: prompts.csv in the folder.
        output: CSV to write; default: scores.csv in the working directory.

    Raises:
        UserError: If folder, table or verifiers are not usable, or the CSV was written by other verifiers.
    """
    from ..data.csv_log import CsvLog
    from ..recipe.identity import digest
    from ..stage2.judges import open_judges
    from ..stage2.scoring import read_list, score_videos

    folder = Path(videos)
    items = read_list(folder, Path(table) if table else folder / _TABLE)
    judges, models = open_judges(recipe)
    identity = digest([judge.identity for judge in judges])
    names = [f"score_{judge.verifier.name}" for judge in judges]
    log = CsvLog(Path(output or "scores.csv"), ["video", "prompt", *names, "critique", "file", "verifiers"])
    done = {tuple(row[:2]): row[-1] for row in log.rows()}
    if set(done.values()) - {identity}:
        raise UserError(f"{log.path} was written by other verifiers. Got it to continue; choose another `--output`.")
    left = [item for item in items if (item.name, item.prompt) not in done]
    say(f"{len(items)} videos, {len(items) - len(left)} already in {log.path}")
    for batch in score_videos(left, judges, models, recipe.stage2.flow_seconds, recipe.stage2.batch_size):
        log.append(
            [
                [item.name, item.prompt, *("" if found.score is None else found.score for found in judgements),
                 " ".join(found.critique for found in judgements if found.critique), fault, identity]
                for item, judgements, fault in batch
            ]
        )  # fmt: skip
    print(f"{len(items)} videos in {log.path}")
