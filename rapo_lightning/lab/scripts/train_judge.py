"""Trains lab-vlm, the lab's judge: `python -m rapo_lightning.lab.scripts.train_judge --out DIR`.

One GPU; the shipped weights took the seconds named in their card. lab-wan first makes videos of training scenes, which the
oracle reads. Killed and started again with the same `--work` folder it goes on. Writes `judge.safetensors` (vision tower and
LoRA in bf16), `judge.json`, the loss log and a card; `measure_judge` measures the judge.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from ...checkpoints import loading, locate
from ...checkpoints.vision_language import JudgeSettings, load_parts
from ...console import quiet, say
from ...stage3.engines.metrics import next_log
from .judge_clips import make
from .judge_rows import JudgeRows, RowMaker
from .judge_training import JudgeTraining
from .judging import Workers
from .timed_training import Clock, Draws, train

NAME = "judge"
_CARD = """\
---
pipeline_tag: video-text-to-text
license: apache-2.0
---
# lab-vlm

What was trained of the lab's judge: a vision tower and a LoRA in bf16. With its base, {base}, it makes a
`Qwen2_5_VLForConditionalGeneration` (`rapo_lightning.checkpoints.vision_language.assemble`). It says what a video of the lab
(64 x 64, 8 fps) shows, then, given a request, what of it is missing or wrong, and a score from 1 to 5.

| | |
|---|---|
| data | rendered clips of the training split, {made} videos of lab-wan, broken clips; verdicts by the lab's oracle |
| words of requests | the training users' and the thesaurus's, none of the held-out and validation users' |
| seed | {seed} |
| device | {device} |
| training | {log} |
| made by | `python -m rapo_lightning.lab.scripts.train_judge --seconds {seconds:g} --batch {batch} --made {made} --rate {rate:g}` |

`rapo-lightning ckpt fetch lab/judge` makes the whole of it. How well it judges is in docs/lab.md.

Loss log: `judge.csv` (means since the last line; `described` and `compared` are the unweighted losses of the two answers).
"""


def _log_summary(path: Path) -> str:
    rows = list(csv.DictReader(path.open()))
    if not rows:
        return "no steps logged"
    first, last = rows[0], rows[-1]
    return (
        f"{float(last['step']):.0f} steps, {float(last['seconds']):.0f} s, loss {float(first['loss']):.4f} -> "
        f"{float(last['loss']):.4f}"
    )


def _write_card(args: argparse.Namespace, settings: JudgeSettings) -> None:
    log = args.work / f"{NAME}.csv"
    (args.out / log.name).write_bytes(log.read_bytes())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    values = {**vars(args), "base": settings.base, "device": device, "log": _log_summary(log)}
    (args.out / "README.md").write_text(_CARD.format(**values), encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ckpt/lab/judge"), help="folder to write")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/lab-judge"), help="lab-wan's videos, saves and loss logs"
    )
    parser.add_argument("--base", default="", help="folder of the text model, if it is not the manifest's copy")
    parser.add_argument("--video-model", type=Path, default=Path("ckpt/lab/video_model"), help="lab-wan's folder")
    parser.add_argument("--seconds", type=float, default=1010.0, help="time of the training, over all starts")
    parser.add_argument("--batch", type=int, default=80, help="videos of a step; each has three or four requests")
    parser.add_argument("--workers", type=int, default=14, help="processes that draw batches")
    parser.add_argument("--made", type=int, default=12_288, help="videos that lab-wan makes")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of these videos")
    parser.add_argument("--rate", type=float, default=JudgeTraining.peak_rate, help="highest learning rate")
    parser.add_argument("--eager", action="store_true", help="do not compile, for a GPU without a compiler")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and trains."""
    args = _arguments().parse_args(arguments)
    quiet()
    args.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    settings = JudgeSettings()
    base = args.base or locate(settings.base)
    with loading("text model", base):
        model, processor = load_parts(base, settings)
    readers = Workers(args.workers)
    made = make(args.work, args.video_model, args.made, args.seed + 11, args.steps, readers)
    readers.close()
    begin = RowMaker(processor.tokenizer).begin
    module = JudgeTraining(model.to(device), settings, begin, args.seed, device.type == "cuda" and not args.eager)
    module.peak_rate = args.rate

    def batches(clock: Clock) -> Draws:
        # A start draws other rows than the one before it.
        start = int(next_log(args.work, NAME).rsplit("-", 1)[1])
        rows = JudgeRows(processor.tokenizer, made, args.batch, args.seed + 1000 * start)
        loader = DataLoader(
            rows,
            batch_size=None,
            num_workers=args.workers,
            # Not forked: this process holds a CUDA context, which does not survive a fork.
            multiprocessing_context="spawn",
            pin_memory=device.type == "cuda",
        )
        drawn = iter(loader)
        return Draws(lambda: next(drawn))

    say(f"{sum(value.numel() for value in module.parameters()) / 1e6:.2f} million parameters are trained")
    train(module, batches, args.work, NAME, args.seconds, device)
    module.save(args.out, settings)
    _write_card(args, settings)


if __name__ == "__main__":
    main()
