"""Parts of `multi_gpu.py`: collections on all devices against one, their rows, and one with a process killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet

from benchmarks import random_weights
from benchmarks.kill_collect import without_times
from benchmarks.multi_gpu_bench import Bench, Line
from benchmarks.processes import ROOT, Devices, kill_one, run
from rapo_lightning.data.trajectory import read_rows
from tests.helpers import tiny_recipe


def _collect(bench: Bench, name: str, recipe: str, devices: Devices, changes: dict[str, Any]) -> dict[str, Any]:
    def measure(folder: Path) -> dict[str, Any]:
        options = [item for key, value in changes.items() for item in (f"--{key}", str(value))]
        command = ["collect", recipe, "--out", str(folder / "run"), *options, *devices.options()]
        seconds = run(command, folder / "log", devices.minutes)
        parts = sorted((folder / "run/trajectories").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
        rows = read_rows(folder / "run/trajectories")
        counted = sum(pyarrow.parquet.read_metadata(path).num_rows for path in parts[devices.count :])
        hours = (parts[-1].stat().st_mtime_ns - parts[0].stat().st_mtime_ns) / 3.6e12
        per_prompt = len(rows) / len({row["prompt_id"] for row in rows})
        return {"rate": counted / per_prompt / hours, "seconds": seconds, "command": command}

    return bench.once(f"{name}-{devices.count}", measure)


def collect_lab(bench: Bench) -> list[Line]:
    """Prompts an hour by the lab's recipe."""
    tiny = {"limit": 32, "prompts": ROOT / "recipes/lab/prompts_train.csv"}
    changes = tiny if bench.tiny else {"limit": 640, "stage1.batch_size": 64, "stage2.batch_size": 64, "seed": 0}
    recipe = bench.recipe()
    return [bench.compared("`collect`, lab", "prompts an hour",
                           lambda devices: _collect(bench, "collect_lab", recipe, devices, changes)["rate"])]  # fmt: skip


def collect_wan(bench: Bench) -> list[Line]:
    """Prompts an hour with a video model of Wan2.1-T2V-1.3B's geometry."""
    weights = random_weights.wan(bench.out / "weights/wan", bench.tiny)
    size = (
        {"height": 32, "width": 32, "num_frames": 5} if bench.tiny else {"height": 480, "width": 832, "num_frames": 17}
    )
    arguments = {
        "checkpoint": str(weights), "pipeline": "WanPipeline", "dtype": "float32" if bench.tiny else "bfloat16", "fps": 16.0,
        "batch_size": 1, "call": {**size, "num_inference_steps": 4, "guidance_scale": 5.0},
    }  # fmt: skip
    (bench.out / "recipe-wan").mkdir(exist_ok=True)
    verifiers = [{"class_path": f"rapo_lightning.verifiers.{name}"} for name in ("TemporalCoherence", "TextFidelity")]
    recipe = tiny_recipe(
        bench.out / "recipe-wan", bench.language_model(), video_model__init_args=arguments, stage2__verifiers=verifiers,
        stage2__rounds=2, stage2__batch_size=2, trainer={}, prompts="recipes/wan21/prompts.csv",
    )  # fmt: skip
    changes = {"limit": 12 if bench.tiny else 32}
    return [bench.compared("`collect`, Wan2.1-1.3B geometry, 4 steps", "prompts an hour",
                           lambda devices: _collect(bench, "collect_wan", str(recipe), devices, changes)["rate"])]  # fmt: skip


def _greedy(bench: Bench) -> dict[str, Any]:
    """Changes that make rows a matter of argmax in float32."""
    if bench.tiny:
        return {"stage2.sampling.temperature": 0.0}
    return {"limit": 96, "stage2.sampling.temperature": 0.0, "stage2.batch_size": 16, "language_model.init_args.dtype": "float32",
            "vision_language_model.init_args.dtype": "float32"}  # fmt: skip


def _texts(folder: Path) -> dict[tuple[str, int], Any]:
    return {(row["prompt_id"], row["round"]): without_times(row) for row in read_rows(folder / "trajectories")}


def _equal(found: dict[Any, Any], expected: dict[Any, Any]) -> tuple[int, int]:
    """Rows with equal texts, and those equal in everything but times and files."""
    texts, whole = ("source_prompt", "prompt", "next_prompt", "seed", "recipe_hash"), 0
    same = [key for key in expected if key in found and all(found[key][name] == expected[key][name] for name in texts)]
    whole = sum(found[key] == expected[key] for key in same)
    return len(same), whole


def rows(bench: Bench) -> list[Line]:
    """Rows of all devices against those of one, by a greedy recipe."""
    recipe, changes = bench.recipe(), _greedy(bench)
    for devices in (bench.devices.one(), bench.devices):
        _collect(bench, "rows", recipe, devices, changes)
    one, several = (_texts(bench.out / f"rows-{count}/run") for count in (1, bench.devices.count))
    same, whole = _equal(several, one)
    got = f"{same} of {len(one)} equal in identity and texts, {whole} in every figure"
    return [Line("rows against one device's", got, "all", same == len(one) == len(several))]


def kill(bench: Bench) -> list[Line]:
    """A process of a collection is killed; the others end, and the same command gives the rows of an unbroken run."""
    rows(bench)

    def measure(folder: Path) -> dict[str, Any]:
        command = json.loads((bench.out / f"rows-{bench.devices.count}.json").read_text())["command"]
        command[command.index("--out") + 1] = str(folder / "run")
        log, minutes = folder / "log", bench.devices.minutes
        parts = folder / "run/trajectories"
        code, seconds, said = kill_one(command, log, minutes, lambda: any(parts.glob("*.parquet")))
        kept = len(read_rows(parts))
        run(command, log, minutes)
        return {"code": code, "seconds": seconds, "said": said, "kept": kept}

    found = bench.once("kill", measure)
    expected = _texts(bench.out / f"rows-{bench.devices.count}/run")
    same, _ = _equal(_texts(bench.out / "kill/run"), expected)
    sentences = found["said"].count("rapo-lightning: ")
    good = found["code"] == 1 and sentences == 1 and "Traceback" not in found["said"]
    ended = f"exit code {found['code']}, {sentences} sentence, all ended after {found['seconds']:.1f} s"
    again = f"{same} of {len(expected)} rows equal, {found['kept']} kept"
    return [Line("a process killed: the others", ended, "1 sentence", good),
            Line("the same: run again", again, "all", same == len(expected))]  # fmt: skip
