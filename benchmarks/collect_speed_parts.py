"""The parts of `collect_speed.py`: each measures something once, keeps it, and says it in lines of the table."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import Any

from benchmarks import random_weights, wan_arithmetic
from benchmarks.collect_speed_bench import Speed
from benchmarks.multi_gpu_bench import Line
from rapo_lightning.data.trajectory import read_rows
from tests import tiny_models

_WAYS: dict[str, dict[str, Any]] = {
    "eager, native": {"compile": False, "attention_backend": "native"},
    "eager, auto": {"compile": False, "attention_backend": "auto"},
    "compiled, native": {"compile": True, "attention_backend": "native"},
    "compiled, auto": {"compile": True, "attention_backend": "auto"},
}
PHASES = ("load", "encode", "denoise", "decode", "flow", "judge", "rewrite")


def weights(speed: Speed) -> list[Line]:
    """Random weights of all models."""
    folder, tiny = speed.out / "weights", speed.chosen.tiny
    random_weights.wan(folder / "video_model", tiny, text_layers=24)
    random_weights.qwen_vl(folder / "vision_language_model", tiny)
    random_weights.qwen(folder / "language_model", "tiny" if tiny else "7b")
    if not (folder / "embedder/modules.json").is_file():
        shutil.rmtree(folder / "embedder", ignore_errors=True)
        tiny_models.minilm(folder / "embedder")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return [Line("random weights", f"{size / 1e9:.1f} GB", "", True)]


def arithmetic(speed: Speed) -> list[Line]:
    """Operations of a pass by formula and as counted, and the matrix rate."""
    found = speed.kept("arithmetic")
    if found is None:
        folder, call = speed.out / "weights/video_model/transformer", speed.video()["call"]
        config = SimpleNamespace(**json.loads((folder / "config.json").read_text()))
        length = call.get("max_sequence_length", 512)
        found = speed.keep("arithmetic", {
            "formula": wan_arithmetic.by_formula(config, call, length),
            "counter": wan_arithmetic.by_counter(folder, call, length),
            "rate": wan_arithmetic.matrix_rate(256 if speed.chosen.tiny else 8192),
        })  # fmt: skip
    share = found["counter"] / found["formula"]
    return [
        Line("operations of a pass, counted by PyTorch over those by formula",
             f"{share:.4f} ({found['counter']:.4g} and {found['formula']:.4g})", "0.99 to 1.01", abs(share - 1) <= 0.01),
        Line("matrix rate, bfloat16", f"{found['rate'] / 1e12:.1f} TFLOP/s", "", True),
    ]  # fmt: skip


def _steps(speed: Speed, name: str, what: str, **changes: Any) -> dict[str, Any]:
    found = speed.kept(name)
    if found is None:
        arguments = speed.video(**changes)
        found = speed.run(name, what, json.dumps(arguments))
        found["steps"] = arguments["call"]["num_inference_steps"]
        speed.keep(name, found)
    return found


def ways(speed: Speed) -> list[Line]:
    """Seconds of a guided step by attention kernels, eager and compiled."""
    lines = []
    for way, changes in _WAYS.items():
        found = _steps(speed, "way " + way, "steps", **changes)
        step = found["seconds"]["denoise"] / found["steps"]
        note = f"{step:.3f} s a step, decode {found['seconds']['decode']:.2f} s, first video after {found['until_ready']:.0f} s"
        lines.append(Line(f"a guided step, {way}", note, "", True))
    return lines


def profile(speed: Speed) -> list[Line]:
    """Wall time over kernel time, and the share of the matrix rate, of denoising as `collect` does it."""
    found, known = _steps(speed, "profile", "profile"), speed.kept("arithmetic")
    wall = found["seconds"]["denoise"]
    busy = wall / found["kernels"]
    lines = [Line("wall time of denoising over summed kernel time", f"{busy:.3f} ({wall:.2f} s and {found['kernels']:.2f} s)",
                  "at most 1.05", busy <= 1.05)]  # fmt: skip
    if known is not None:
        rate = 2 * known["formula"] * found["steps"] / wall
        share = rate / known["rate"]
        lines.append(Line("arithmetic of denoising over seconds times matrix rate",
                          f"{share:.1%} ({rate / 1e12:.1f} of {known['rate'] / 1e12:.1f} TFLOP/s)", "72 %", share >= 0.72))  # fmt: skip
    return lines


def stand_in(speed: Speed) -> list[Line]:
    """One prompt with all its rounds, everything loaded anew for each."""
    found = speed.kept("stand_in")
    if found is None:
        changes = {"compile": False, "attention_backend": "native"}
        recipe = speed.recipe("stand_in", changes, speed.chosen.steps, limit=1)
        shutil.rmtree(speed.out / "stand_in", ignore_errors=True)
        found = speed.keep("stand_in", speed.run("stand_in", "stand_in", str(recipe), str(speed.out / "stand_in")))
    return [Line("stand-in", f"{_per_hour(found):.2f} prompts x rounds an hour; {_breakdown(found)}", "", True)]


def _per_hour(found: dict[str, Any]) -> float:
    return float(found["rounds"] / found["wall"] * 3600)


def _breakdown(found: dict[str, Any]) -> str:
    """Seconds of a prompt's round by phase."""
    seconds = {name: found["seconds"].get(name, 0.0) / found["rounds"] for name in PHASES}
    rest = found["wall"] / found["rounds"] - sum(seconds.values())
    peaks = ", ".join(f"{name} {value:.1f}" for name, value in found["peaks"].items())
    told = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    return f"seconds of each: {told}, rest {rest:.2f}" + (f"; peak GB: {peaks}" if peaks else "")


def _collection(speed: Speed, name: str, video: dict[str, Any], steps: int, **changes: Any) -> dict[str, Any] | None:
    """A collection, in as many pieces as it takes; None while it is not done."""
    found = speed.kept(name) or {"wall": 0.0, "seconds": {}, "peaks": {}, "rounds": 0, "pieces": 0}
    limit = changes.get("limit", speed.chosen.prompts)
    if found["rounds"] < limit * speed.chosen.rounds:
        recipe, run = speed.recipe(name, video, steps, **changes), speed.out / name
        # Of a piece that was lost nobody knows how long it took: then everything is measured anew.
        if not found["pieces"]:
            shutil.rmtree(run, ignore_errors=True)
        piece = speed.run(name, "command", "collect", str(recipe), "--out", str(run))
        found["wall"] += piece["wall"]
        found["pieces"] += 1
        for phase, seconds in piece["seconds"].items():
            found["seconds"][phase] = found["seconds"].get(phase, 0.0) + seconds
        for phase, peak in piece["peaks"].items():
            found["peaks"][phase] = max(found["peaks"].get(phase, 0.0), peak)
        done = (run / "trajectories").is_dir()
        found["rounds"] = len(read_rows(run / "trajectories")) if done else 0
        found["videos"] = len(list(run.rglob("videos/*/*.mp4")))
        speed.keep(name, found)
    return found if found["rounds"] >= limit * speed.chosen.rounds else None


def _against(speed: Speed, name: str, found: dict[str, Any] | None, least: float) -> list[Line]:
    if found is None:
        kept = speed.kept(name) or {"rounds": 0}
        return [Line(name, f"{kept['rounds']} rows so far: call it again", "all", False)]
    # A rewriter that repeated itself would spare the loop a video.
    counted = f"{found['videos']} videos of {found['rounds']} rounds"
    lines = [
        Line(name, f"{_per_hour(found):.2f} prompts x rounds an hour; {_breakdown(found)}", "", True),
        Line(f"`{name}`, videos made", counted, "all", found["videos"] == found["rounds"]),
    ]
    base = speed.kept("stand_in")
    if base is not None:
        ratio = _per_hour(found) / _per_hour(base)
        got = f"{ratio:.2f} times ({_per_hour(found):.2f} and {_per_hour(base):.2f} an hour)"
        lines.append(Line(f"`{name}` against the stand-in", got, f"{least} times", ratio >= least))
    return lines


def collect(speed: Speed) -> list[Line]:
    """The loop with everything resident."""
    found = _collection(speed, "collect", {}, speed.chosen.steps)
    lines = _against(speed, "collect", found, 1.9)
    if found is not None and found["peaks"]:
        peak = max(found["peaks"].values())
        lines.append(Line("peak memory, everything resident", f"{peak:.1f} GB", "at most 60 GB", peak < 60))
    return lines


def cached(speed: Speed) -> list[Line]:
    """The loop with the first-block cache. How often random weights let a step be left out says nothing about real ones."""
    cache = {"kind": "first_block", "threshold": speed.chosen.threshold}
    found = _collection(speed, "cached", {"cache": cache}, speed.chosen.steps)
    lines = _against(speed, "cached", found, 3.5)
    few = _steps(speed, "cached blocks", "steps", compile=False, cache=cache)
    layers = json.loads((speed.out / "weights/video_model/transformer/config.json").read_text())["num_layers"]
    share = few["blocks"] / (2 * layers * few["steps"])
    note = f"{share:.1%} of the blocks ran, in {few['steps']} steps with random weights"
    return [*lines, Line(f"first-block cache at {speed.chosen.threshold}", note, "", True)]


def small_card(speed: Speed) -> list[Line]:
    """Peak memory of the loop with one model, and of the video model one phase, on the GPU at a time; few steps."""
    found = _collection(speed, "small_card", {}, speed.chosen.few, limit=min(4, speed.chosen.prompts), residency="swap")
    if found is None or not found["peaks"]:
        return [Line("peak memory, `residency: swap`", "no GPU" if found else "call it again", "", bool(found))]
    peak = max(found["peaks"].values())
    told = ", ".join(f"{name} {value:.1f}" for name, value in found["peaks"].items())
    return [Line("peak memory, `residency: swap`", f"{peak:.1f} GB ({told})", "at most 22 GB", peak < 22)]
