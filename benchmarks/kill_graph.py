"""Kills `graph build` and `graph add` at random moments and runs them again: `python benchmarks/kill_graph.py --kills 30`.

After the second run the graph's files must be those of an unbroken run, byte for byte, and nothing may lie beside them.
Phrases are embedded by hashing their words, so that a trial takes a second; all else is the real command.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rapo_lightning.cli import main
from rapo_lightning.commands import graph as graph_commands

DIMENSIONS = 384
AFTER = 1.2
"""Kills come at up to this share of an unbroken run's time; a run that ended before its kill must change nothing either."""
WORDS = [
    "walking",
    "standing",
    "man",
    "woman",
    "child",
    "park",
    "beach",
    "river",
    "kitchen",
    "street",
    "window",
    "red",
    "blue",
    "old",
    "quiet",
    "busy",
    "calm",
    "bright",
]


class HashedWords:
    """An embedder that needs no weights."""

    name = "hashed-words"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row per text: the sum of a fixed random vector per word."""
        words = {word: np.random.default_rng(sum(word.encode())) for text in texts for word in text.split()}
        known = {word: rng.standard_normal(DIMENSIONS).astype(np.float32) for word, rng in words.items()}
        return np.stack(
            [sum((known[word] for word in text.split()), np.zeros(DIMENSIONS, np.float32)) for text in texts]
        )


def write_csv(path: Path, rows: int, seed: int) -> Path:
    """A CSV of random extractions."""
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Input", "verb_obj_word", "scenario_word", "place"])
        for number in range(rows):
            cells = [[" ".join(draw.choices(WORDS, k=4)) for _ in range(count)] for count in (3, 2, 1)]
            writer.writerow([f"caption {number}", *cells])
    return path


def _main(arguments: list[str]) -> int:
    graph_commands._encoder = lambda name: HashedWords()
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        return main(["graph", *arguments])


def _command(arguments: list[str]) -> None:
    raise SystemExit(_main(arguments))


def run(arguments: list[str], seconds: float | None = None) -> bool:
    """Runs the command in a process of its own, killed after `seconds`; whether it ended by itself, in order."""
    process = multiprocessing.get_context("fork").Process(target=_command, args=(arguments,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == 0


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a graph."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def trial(arguments: list[str], start: Path | None, graph: Path, seconds: float) -> tuple[str, bool, list[str]]:
    """One kill: when it came, whether the next run's files are as expected, and what lies beside the graph after it."""
    shutil.rmtree(graph.parent, ignore_errors=True)
    graph.parent.mkdir()
    if start is not None:
        shutil.copytree(start, graph)
    ended = run(arguments, seconds)
    again = run(arguments)
    left = sorted(path.name for path in graph.parent.iterdir() if path != graph)
    return ("after its end" if ended else f"{seconds:.3f} s"), again, left


def measure(action: str, kills: int, folder: Path, draw: random.Random) -> tuple[int, int]:
    """Kills one action; returns how often the files differed and how often something was left."""
    first, second = write_csv(folder / "1.csv", 3000, 1), write_csv(folder / "2.csv", 1000, 2)
    begun, whole, graph = folder / "begun", folder / "whole", folder / action / "graph"
    run(["build", str(first), "--out", str(begun)])
    # Here and not in every trial, most of which would otherwise be killed while it imports.
    _main(["info", str(begun)])
    start = begun if action == "add" else None
    shutil.copytree(begun, whole) if start else None

    def command(place: Path) -> list[str]:
        return ["add", str(place), str(second)] if start else ["build", str(second), "--out", str(place)]

    begin = time.monotonic()
    run(command(whole))
    length, expected = time.monotonic() - begin, contents(whole)
    differed = littered = 0
    for _ in range(kills):
        moment, again, left = trial(command(graph), start, graph, draw.uniform(0, AFTER * length))
        equal = again and contents(graph) == expected
        differed, littered = differed + (not equal), littered + bool(left)
        print(f"{action:6}  {moment:>13}  {'yes' if equal else 'NO':>11}  {', '.join(left) or 'none'}", flush=True)
    shutil.rmtree(whole)
    shutil.rmtree(begun)
    return differed, littered


def benchmark() -> None:
    """Prints one line per kill, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="of each of the two commands")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    print(f"{'action':6}  {'killed after':>13}  {'files equal':>11}  left beside the graph")
    with tempfile.TemporaryDirectory() as folder:
        totals = {action: measure(action, options.kills, Path(folder), draw) for action in ("build", "add")}
    for action, (differed, littered) in totals.items():
        print(f"{action}: {options.kills} kills, files differ after {differed}, something is left after {littered}")


if __name__ == "__main__":
    benchmark()
