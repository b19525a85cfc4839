"""Parts of `multi_gpu.py`: trainings on all devices against one, and a base that is sharded."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

from benchmarks import random_weights
from benchmarks.multi_gpu_bench import Bench, Line
from benchmarks.processes import Devices, kill_one, peak_memory, run
from benchmarks.trained_folder import adapter_form, checkpoint_is_there, losses, same_form, tokens_per_second
from tests.helpers import tiny_recipe


def _pairs(bench: Bench, count: int) -> Path:
    """Ready pairs of about 512 tokens, or 100, of random letters."""
    rng, path = random.Random(0), bench.out / f"pairs-{count}.csv"
    request, answer = (20, 40) if bench.tiny else (60, 400)

    def words(letters: int) -> str:
        return " ".join("".join(rng.choices(string.ascii_lowercase, k=7)) for _ in range(letters // 8))

    lines = [f"{words(request)},{words(answer)}" for _ in range(count)]
    path.write_text("\n".join(["prompt,completion", *lines]) + "\n")
    return path


def _finetune(bench: Bench, base: str, devices: Devices, strategy: str, steps: int, **changes: Any) -> list[str]:
    """The command of a training but for its folder: steps of the paper's 32 pairs on each device, 4 at a time where padded."""
    weights = random_weights.qwen(bench.out / f"weights/qwen-{base}", base)
    (bench.out / f"recipe-{base}").mkdir(exist_ok=True)
    recipe = tiny_recipe(bench.out / f"recipe-{base}", weights, trainer={})
    batch = 32 * devices.count
    options = {
        "pairs": _pairs(bench, batch * steps), "stage3.pairs": "[]", "stage3.validation_share": 0, "stage3.epochs": 1,
        "stage3.system": "Rewrite the request.", "stage3.lora.r": 64, "stage3.lora.alpha": 64, "stage3.lora.dropout": 0.0,
        "stage3.optimizer.lr": 1e-4, "stage3.optimizer.batch_size": batch, "stage3.optimizer.micro_batch_size": 4,
        "stage3.checkpoint_steps": 0, **changes,
    }  # fmt: skip
    given = [item for key, value in options.items() for item in (f"--{key}", str(value))]
    return ["finetune", str(recipe), *given, *devices.options(strategy)]


def _trained(bench: Bench, devices: Devices, strategy: str) -> dict[str, Any]:
    """A training of the 7B geometry."""

    def measure(folder: Path) -> dict[str, Any]:
        base = "tiny" if bench.tiny else "7b"
        command = _finetune(bench, base, devices, strategy, 12)
        with peak_memory() as peaks:
            run([*command, "--out", str(folder / "run")], folder / "log", devices.minutes)
        pairs = Path(command[command.index("--pairs") + 1])
        rate = tokens_per_second(folder / "run", bench.out / f"weights/qwen-{base}", pairs, "Rewrite the request.")
        return {"rate": rate, "losses": losses(folder / "run"), "MiB": list(peaks), "command": command}

    return bench.once(f"finetune-{strategy}-{devices.count}", measure)


def finetune(bench: Bench) -> list[Line]:
    """Tokens a second of SFT under DDP, with the same batch on each device."""
    return [bench.compared("`finetune`, Qwen2.5-7B geometry, LoRA r=64, DDP", "tokens/s",
                           lambda devices: _trained(bench, devices, "ddp")["rate"])]  # fmt: skip


def fsdp(bench: Bench) -> list[Line]:
    """The same under FSDP2, and a base that does not fit on a device: killed, gone on with, and its adapter's form."""
    copies, sharded = (_trained(bench, bench.devices, strategy) for strategy in ("ddp", "fsdp2"))
    off = max(abs(a - b) / abs(b) for a, b in zip(sharded["losses"], copies["losses"], strict=True))
    lines = [
        Line("FSDP2 against DDP, 7B geometry: losses", f"differ by {off:.1e} relative", "1e-2", off <= 1e-2),
        Line("the same: tokens/s, MiB of each GPU",
             f"{sharded['rate']:.4g} against {copies['rate']:.4g}, {sharded['MiB']} against {copies['MiB']}", "", True),
    ]  # fmt: skip
    base = "tiny" if bench.tiny else bench.base
    big = bench.once(f"fsdp-{base}", lambda folder: _large(bench, base, folder))
    lines += [
        Line(f"FSDP2, {base} geometry: runs", f"{big['steps']} steps, MiB of each GPU {big['MiB']}", "", big["steps"] == 6),
        Line("the same: a process killed, run again", big["killed"], "goes on", big["resumed"]),
        Line("the same: keys, shapes and types of the adapter", big["form"], "DDP's", big["form"] == "equal"),
    ]  # fmt: skip
    return lines


def _large(bench: Bench, base: str, folder: Path) -> dict[str, Any]:
    changes = {"stage3.lora.r": 8, "stage3.checkpoint_steps": 1, "stage3.gradient_checkpointing": "true"}
    devices, place, log = bench.devices, folder / "run", folder / "log"
    command = [*_finetune(bench, base, devices, "fsdp2", 6, **changes), "--out", str(place)]
    with peak_memory() as peaks:
        code, seconds, said = kill_one(command, log, devices.minutes, lambda: checkpoint_is_there(place))
        run(command, log, devices.minutes)
    expected = adapter_form(bench.out / f"weights/qwen-{base}", r=8)
    told = f"exit code {code}, all ended after {seconds:.1f} s"
    good = code == 1 and said.count("rapo-lightning: ") == 1 and "Traceback" not in said
    return {"steps": len(losses(place)), "MiB": list(peaks), "killed": told, "resumed": good,
            "form": same_form(place / "refiner", expected)}  # fmt: skip
