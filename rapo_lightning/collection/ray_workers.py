"""Collection by workers of a Ray cluster: Ray deals out prompts, makes dead workers anew and tries their prompts again."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..console import quiet, say
from ..data.prompts import Prompt
from ..data.store import Row
from ..errors import RunError, UserError
from ..models.outside_program import without_launcher
from ..recipe import Recipe
from ..recipe.components import ALLOWED_PACKAGES, allow_commands, allow_packages, commands_allowed
from ..running.interruption import INTERRUPTION
from .worker import CollectionWorker, alone

MAX_DEATHS_AT_START = 20
"""How many workers in a row may die while they start; Ray's default is none, which a machine that goes away exceeds."""


def check_ray() -> None:
    """Checks that Ray is there, without importing it.

    Raises:
        UserError: If it is not, or another launcher started this process as one of several.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "`--engine ray` needs the package `ray`. Got an environment without it; run `pip install 'rapo-lightning[ray]'`."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "`--engine ray` starts its workers itself. Got a process that torchrun started as one of "
            f"{os.environ['WORLD_SIZE']}; run the command once, without torchrun."
        )


class RayWorker:
    """A `CollectionWorker` in a process of Ray's, built by its first prompts: an error there is told, not retried."""

    def __init__(self, recipe: Recipe, folder: str, packages: Sequence[str], commands: bool, place: str) -> None:
        """Keeps what is needed to build it.

        Args:
            recipe: The recipe.
            folder: The run folder, absolute, on a file system that all workers see.
            packages: Further packages that the recipe may name.
            commands: Whether it may name programs that are run.
            place: Working directory of the command, from where relative paths of the recipe count.
        """
        self._arguments = (replace(recipe, trainer=alone(recipe.trainer)), Path(folder), packages, commands, place)
        self._worker: CollectionWorker | None = None

    def _build(self) -> CollectionWorker:
        recipe, folder, packages, commands, place = self._arguments
        # What started Ray on this machine may have numbered it, and Lightning would believe the numbers.
        for name in set(os.environ) - set(without_launcher(os.environ)):
            del os.environ[name]
        os.chdir(place)
        if place not in sys.path:
            sys.path.insert(0, place)
        quiet()
        allow_packages(list(packages))
        allow_commands(commands)
        # A name that was never used: of two processes with one record file, one could be dead to Ray and still writing.
        return CollectionWorker(recipe, folder, f"ray-{uuid.uuid4().hex[:8]}", tidy=False)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Runs a batch of prompts.

        Args:
            batch: The fields of `Prompt`, a column each.

        Returns:
            How many prompts are done, and what went wrong, one row.
        """
        prompts = [Prompt(*map(str, fields)) for fields in zip(*(batch[name] for name in _FIELDS), strict=True)]
        try:
            self._worker = self._worker or self._build()
            self._worker.run(prompts)
        except UserError as error:
            return {"prompts": [0], "error": [str(error)]}
        return {"prompts": [len(prompts)], "error": [""]}


_FIELDS = ("text", "phys_law", "reference", "group")


def collect_with_ray(worker: CollectionWorker, prompts: Sequence[Prompt], workers: int) -> list[Row]:
    """Brings prompts to their last round on a Ray cluster.

    The cluster is that of `RAY_ADDRESS`, or one that runs on this machine, else one is started here.

    Args:
        worker: The command's own; it says what is done, and computes nothing.
        prompts: The prompts.
        workers: How many; 0 is one per GPU, or one per machine where there are none.

    Returns:
        All rows of these prompts.

    Raises:
        UserError: If the cluster has no room for that many.
        RunError: If a worker cannot go on.
    """
    left = worker.left(prompts)
    say(f"{len(prompts)} prompts, {len(prompts) - len(left)} already complete in {worker.folder}")
    if left:
        _work(worker, left, workers)
        # Once more, for what killed workers left.
        worker.left(prompts)
    return worker.rows(prompts)


def _work(worker: CollectionWorker, prompts: Sequence[Prompt], workers: int) -> None:
    """Starts Ray and runs prompts; what Ray says at length goes to a log."""
    import ray

    log = worker.folder / "ray.log"
    try:
        with _errors_to(log):
            _start(ray)
            _run(ray, worker, prompts, workers)
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunError(
            f"A Ray worker failed for good. Got {(lines or [type(error).__name__])[-1][:400]!r}; mend the cause ({log} and "
            "Ray's own logs have more) and run the same command again to go on: what was recorded is safe."
        ) from error
    finally:
        ray.shutdown()


@contextmanager
def _errors_to(log: Path) -> Iterator[None]:
    """Lets the error stream of this process, that of its C++ libraries too, go to a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _run(ray: Any, worker: CollectionWorker, prompts: Sequence[Prompt], workers: int) -> None:
    size, share = _pool(ray, workers)
    most = max(1, min(worker.recipe.stage2.batch_size, math.ceil(len(prompts) / size)))
    say(f"{size} Ray workers, {most} prompts at a time each")
    begin, done = time.monotonic(), 0
    for row in _results(worker, prompts, size, share, math.ceil(len(prompts) / most)):
        if row["error"]:
            raise RunError(row["error"])
        done += row["prompts"]
        rate = done / (time.monotonic() - begin) * 60
        say(f"{done} of {len(prompts)} prompts, {rate:.1f} a minute")


def _start(ray: Any) -> None:
    """Connects to a cluster, or starts one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    # Ray has taken SIGTERM over.
    INTERRUPTION.install()


def _pool(ray: Any, workers: int) -> tuple[int, dict[str, Any]]:
    """How many workers, and what each of them gets."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    cpus = [int(machine["CPU"]) for machine in machines]
    size, most = (workers or gpus, gpus) if gpus else (workers or len(cpus), sum(cpus))
    if not 1 <= size <= most:
        raise UserError(
            f"`--workers` must be 1 to {most} on this Ray cluster, one per {'GPU' if gpus else 'CPU'} at most. Got {workers}; "
            "name fewer, or add machines."
        )
    return size, {"num_gpus": 1} if gpus else {"num_cpus": max(1, min(cpus) // math.ceil(size / len(cpus)))}


def _results(
    worker: CollectionWorker, prompts: Sequence[Prompt], size: int, share: Mapping[str, Any], batches: int
) -> Iterator[dict[str, Any]]:
    """What workers say of their batches, as they finish.

    Ray Data makes a worker that died anew and tries its batch again, both without end (`max_restarts` and
    `max_task_retries` of its actors are -1, and later releases let nobody set them).
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = MAX_DEATHS_AT_START
    # A batch of long videos may take longer than any limit.
    context.execution_no_progress_timeout_s = -1
    items = [{name: getattr(prompt, name) for name in _FIELDS} for prompt in prompts]
    done = ray.data.from_items(items, override_num_blocks=batches).map_batches(
        RayWorker,
        fn_constructor_args=(
            worker.recipe,
            str(worker.folder.resolve()),
            list(ALLOWED_PACKAGES),
            commands_allowed(),
            os.getcwd(),
        ),
        batch_size=None,
        batch_format="numpy",
        # One batch at a time each, so that none waits behind a slow one; where machines are lost, fewer workers go on.
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=1
        ),
        **share,
    )
    yield from done.iter_rows()
