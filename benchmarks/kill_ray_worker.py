"""Kills workers of a Ray collection at random moments: are rows and videos those of an unbroken run?

    python benchmarks/kill_ray_worker.py --kills 10

A tiny recipe on the CPU (`tests/helpers.py`) that saves its videos, two workers. Every 2 to 8 seconds one of them, chosen
at random, is killed, whether it works, loads or has only just been made anew. Rows are compared without their times, videos
byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.kill_collect import without_times
from benchmarks.kills import descendants
from rapo_lightning.data.trajectory import read_rows
from tests.helpers import tiny_language_model, tiny_recipe

ROOT = Path(__file__).parent.parent


def contents(folder: Path) -> tuple[list[dict[str, object]], dict[str, str]]:
    """Rows without times, and hashes of videos by their path."""
    videos = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("videos/*/*"))
    }
    return [without_times(row) for row in read_rows(folder / "trajectories")], videos


def collect(recipe: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Starts a collection."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rapo_lightning", "collect", str(recipe), "--out", str(folder)]
    command += ["--allow_package", "tests", *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed(recipe: Path, folder: Path, kills: int, rng: random.Random) -> int:
    """Runs a collection with two workers, and kills one up to `kills` times; returns how often that was done.

    Raises:
        RuntimeError: If the collection fails.
    """
    run, done = collect(recipe, folder, "--engine", "ray", "--workers", "2"), 0
    while run.poll() is None and done < kills:
        time.sleep(rng.uniform(2, 8))
        workers = descendants(run.pid, "ray::MapWorker")
        if workers and list(folder.glob("records/generations.*")):
            os.kill(rng.choice(workers), signal.SIGKILL)
            done += 1
            rows = sum(len(path.read_bytes().splitlines()) for path in folder.glob("records/generations.*"))
            print(f"kill {done}: {rows} videos recorded by then", flush=True)
    out, err = run.communicate()
    if run.returncode != 0:
        raise RuntimeError(out[-1000:] + err[-2000:])
    return done


def main() -> None:
    """Prints what differs; fails if anything does or too few were killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "llm").mkdir()
        recipe = tiny_recipe(
            work, tiny_language_model(work / "llm"), limit=chosen.prompts,
            prompts=str(ROOT / "recipes/lab/prompts_train.csv"),
        )  # fmt: skip
        whole = collect(recipe, work / "whole")
        if whole.communicate() and whole.returncode != 0:
            raise RuntimeError("the unbroken run failed")
        begin = time.monotonic()
        done = killed(recipe, work / "killed", chosen.kills, random.Random(chosen.seed))
        seconds = time.monotonic() - begin
        (rows, videos), found = contents(work / "whole"), contents(work / "killed")
        lines = [
            line for path in (work / "killed").glob("records/generations.*") for line in path.read_text().splitlines()
        ]
        made = Counter(json.loads(line)["key"] for line in lines)
    equal = {"rows": rows == found[0], "videos": videos == found[1]}
    print(f"{done} kills in {seconds:.0f} s; {len(rows)} rows, {len(videos)} videos; equal: {equal}")
    print(f"generations recorded twice: {sum(count - 1 for count in made.values())}")
    sys.exit(done < chosen.kills or not all(equal.values()))


if __name__ == "__main__":
    main()
