"""The run folder: who may write to it, what recipe made what, and files that are whole or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ..console import say
from ..data.ranking import Ranking
from ..data.store import Row, make_folder
from ..data.trajectory import read_rows
from ..errors import RunError, UserError
from ..recipe import Recipe
from ..recipe.files import load_recipe
from ..recipe.identity import settings_hash

LOOP = "loop.json"
"""What a loop's folder has, whose trajectories lie in its cycles."""
_LOCK = ".lock"
_GATE_SECONDS = 30.0
"""How long a shard waits for its turn where many start at once."""
_CARD = """\
---
configs:
- config_name: trajectories
  default: true
  data_files: "{below}trajectories/*.parquet"
- config_name: aligned
  data_files: "{below}aligned/*.parquet"
- config_name: evaluation
  data_files: evaluation/arms/*/*.parquet
---
A run of [rapo-lightning](https://arxiv.org/abs/2510.20206): `trajectories` has one row per prompt and round of the closed
loop, `aligned` one per prompt of stage 1, `evaluation` one per prompt and arm. `recipe.yaml` is what made the trajectories.
"""


def is_main_process() -> bool:
    """Whether this is the first process of a run; launchers number the others before they start them."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def write_text(path: Path, text: str) -> None:
    """Writes a small text file whole or not at all; errors as `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, contents: bytes) -> None:
    """Writes a small file whole or not at all.

    Raises:
        RunError: If the disk is full or read-only.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Never through a link that somebody laid there.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {error.strerror}. Make room or choose another `--out`.") from error


def run_folder(recipe: Recipe, out: str) -> Path:
    """The run's folder; it need not be there."""
    return Path(out) if out else Path("runs") / recipe.name


_WRITTEN = (
    "*",
    "records/*",
    "checkpoints/*/*",
    "refiner*/*",
    "reward*/*",
    "recipes/*",
    "trajectories/*",
    "videos/*",
    "pending/*",
)
"""Where a run writes; loggers keep links of their own in `logs` and the like."""


def _refuse_links(folder: Path) -> None:
    """A link where a run writes would let a stranger's run folder overwrite the user's files.

    Raises:
        UserError: If there is one.
    """
    links = [path for pattern in _WRITTEN for path in folder.glob(pattern) if path.is_symlink()]
    if links:
        raise UserError(
            f"A run folder must hold no links where it is written to. Got {links[0]}, which leads elsewhere; remove it, or "
            "choose another `--out`."
        )


@contextmanager
def locked(folder: Path, shard: str = "") -> Iterator[Path]:
    """Creates a run folder and keeps other runs out of it; the processes of one run share its lock.

    The runs of different shards may write at once. Every run takes the folder's own lock first; that of a shard gives it
    back once it has the shard's.

    Args:
        folder: The run folder.
        shard: Name of the share of the prompts that this run is about; empty for all.

    Raises:
        RunError: If it cannot be created.
        UserError: If another run is writing to it, or to the same shard.
    """
    make_folder(folder)
    _refuse_links(folder)
    if not is_main_process():
        yield folder
        return
    lock = _taken_for_shard(folder, shard) if shard else _taken(folder)
    holder = Path(f"{lock.lock_file}.pid")
    try:
        write_text(holder, f"{os.getpid()}\n")
        yield folder
    finally:
        holder.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _taken(folder: Path) -> BaseFileLock:
    """The lock of a whole folder."""
    lock = _acquire(folder / _LOCK, folder)
    try:
        for path in sorted(folder.glob(f"{_LOCK}.*-of-*[0-9]")):
            # A killed shard leaves its file, but not its lock.
            _acquire(path, folder).release()
            path.unlink(missing_ok=True)
            Path(f"{path}.pid").unlink(missing_ok=True)
    except UserError:
        lock.release()
        raise
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    return lock


def _taken_for_shard(folder: Path, shard: str) -> BaseFileLock:
    """The lock of a shard; other shards hold the folder's own for a moment only."""
    gate = _acquire(folder / _LOCK, folder, _GATE_SECONDS)
    try:
        return _acquire(folder / f"{_LOCK}.{shard}", folder)
    finally:
        gate.release()


def _acquire(path: Path, folder: Path, seconds: float = 0) -> BaseFileLock:
    lock = FileLock(str(path), timeout=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        holder = Path(f"{path}.pid")
        pid = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "unknown"
        raise UserError(
            f"A run folder is written by one run at a time, or by one per shard. Got {folder}, which process {pid} is "
            "writing to; wait for it or choose another `--out`."
        ) from error
    return lock


def save_recipe(text: str, folder: Path, command: str, identity: str = "") -> None:
    """Keeps the resolved recipe of a command beside what it made; that of `collect` is the run's own `recipe.yaml`.

    Args:
        text: The recipe as YAML.
        folder: The run folder.
        command: Name of the command.
        identity: The rows' `recipe_hash`; the recipe is kept under it as well, for good.

    Raises:
        RunError: If the folder is read-only or full.
    """
    if not is_main_process():
        return
    if command == "collect" or not (folder / "recipe.yaml").is_file():
        write_text(folder / "recipe.yaml", text)
    if command != "collect":
        write_text(folder / "recipes" / f"{command}.yaml", text)
    if identity:
        write_text(folder / "recipes" / f"{identity}.yaml", text)
    write_text(folder / "README.md", _CARD.format(below="cycle-*/" if (folder / LOOP).is_file() else ""))


def _kept_hash(path: Path) -> str:
    try:
        return settings_hash(load_recipe(path))
    except (UserError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} must be the recipe that its rows were made with. Got {' '.join(str(error).split())[:200]}; move it away, "
            "or restore it."
        ) from error


def rows_of_recipe(recipe: Recipe, folder: Path) -> list[Row]:
    """The trajectories in a run folder that a recipe made, found without its models' files.

    Rows carry the hash of the weights they were made with; the recipes kept beside them say which hash belongs to which
    recipe. Rows of schema version 1 have no such recipe: where they are all of one recipe, they are taken.

    Args:
        recipe: The recipe.
        folder: The run folder.

    Raises:
        UserError: If there are no rows, or none or several sets of them could be meant.
    """
    rows = read_rows(folder / "trajectories")
    if not rows:
        raise UserError(
            f"This needs trajectories. Got none in {folder / 'trajectories'}; run `collect` with the same recipe and `--out`."
        )
    found = list(dict.fromkeys(row["recipe_hash"] for row in rows))
    kept = {name: folder / "recipes" / f"{name}.yaml" for name in found}
    named = [name for name, path in kept.items() if path.is_file()]
    same = [name for name in named if _kept_hash(kept[name]) == settings_hash(recipe)]
    # Where a file that the recipe names has changed since, the recipe made several sets: the last one counts.
    newest = sorted(same, key=lambda name: kept[name].stat().st_mtime_ns)[-1:]
    chosen = newest or ([] if named else found)
    if len(same) > 1:
        say(
            f"This recipe made {len(same)} sets of rows, from files of other contents: the last, {chosen[0]}, is taken."
        )
    if len(chosen) != 1:
        raise UserError(
            f"The trajectories in {folder} must be of this recipe. Got rows of {', '.join(found)}, of which "
            f"{len(chosen)} fit; use the recipe they were collected with (`recipes/<hash>.yaml` there) or collect anew."
        )
    return [row for row in rows if row["recipe_hash"] == chosen[0]]


def recipe_of_run(folder: Path) -> Recipe:
    """The recipe that a run folder keeps of its trajectories.

    Raises:
        UserError: If there is none.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise UserError(
            f"This needs a run folder. Got {str(folder)!r}, which has no recipe.yaml; run `collect` or `import` first."
        )
    return load_recipe(path)


def rows_of_run(folder: Path) -> tuple[list[Row], Ranking]:
    """The trajectories that a run folder's own recipe made, and how it finds the best round.

    Args:
        folder: The run folder.

    Raises:
        UserError: As `rows_of_recipe`, or if there is no recipe.
    """
    recipe = recipe_of_run(folder)
    return rows_of_recipe(recipe, folder), recipe.stage2.ranking
