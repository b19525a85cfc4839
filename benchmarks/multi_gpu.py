"""The run on several GPUs: collection, training, a sharded base, equal rows, a lost process; a table for any number of them.

    python benchmarks/multi_gpu.py --out /tmp/multi --gpus 2 --parts finetune          # a part a call, each some minutes
    python benchmarks/multi_gpu.py --out /tmp/multi --gpus 2                           # what is not measured yet, and the table
    python benchmarks/multi_gpu.py --out /tmp/multi --gpus 2 --tiny                    # two processes of a CPU, tiny sizes

Every number is kept in `--out` as it is measured, and not measured again. Weights of Wan2.1-T2V-1.3B and Qwen2.5 are random, in their
published geometry and layout (`benchmarks/random_weights.py`), made there too: 5 GB for `collect_wan`, 15 GB for `finetune`, 66 GB for
`fsdp` (`--base 32b`). `collect_lab`, `rows` and `kill` take the lab's recipe and so its checkpoints.

A collection's rate counts the rows between the first part on disk and the last, the first of each process left out, which is to the
disadvantage of several. A training's is that of its steps but the first two, by the times in its log, all tokens of pairs counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import random_weights
from benchmarks.multi_gpu_bench import Bench, Line
from benchmarks.multi_gpu_collect import collect_lab, collect_wan, kill, rows
from benchmarks.multi_gpu_train import finetune, fsdp
from benchmarks.processes import Devices

PARTS: dict[str, Callable[[Bench], list[Line]]] = {
    part.__name__: part for part in (collect_lab, collect_wan, finetune, fsdp, rows, kill)
}


def main() -> None:
    """Prints the table and fails if something falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--base", choices=random_weights.QWEN, default="32b")
    parser.add_argument("--minutes", type=float, default=8.0, help="how long a command may take")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    devices = Devices(chosen.gpus, chosen.tiny, chosen.minutes)
    bench, good = Bench(chosen.out.resolve(), devices, chosen.tiny, chosen.base), True
    print(
        f"| what, {chosen.gpus} {'processes of a CPU' if chosen.tiny else 'GPUs'} | found | at least | |\n|---|---|---|---|"
    )
    for part in chosen.parts:
        try:
            lines = PARTS[part](bench)
        except RuntimeError as error:
            lines = [Line(part, " ".join(str(error).split()), "", False)]
        for line in lines:
            print(f"| {line.what} | {line.got} | {line.least} | {'yes' if line.good else 'NO'} |", flush=True)
            good = good and line.good
    sys.exit(not good)


if __name__ == "__main__":
    main()
