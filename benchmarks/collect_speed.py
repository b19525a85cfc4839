"""How fast `collect` is at full size, against one script a prompt, by phases; for one GPU.

    python benchmarks/collect_speed.py --out /tmp/speed --parts weights            # 47 GB of random weights, once
    python benchmarks/collect_speed.py --out /tmp/speed --parts arithmetic profile # and so on: each part fits `--minutes`
    python benchmarks/collect_speed.py --out /tmp/speed                            # what is not measured yet, and the table
    python benchmarks/collect_speed.py --out /tmp/speed --tiny                     # tiny sizes on a CPU: whether it runs

Every number is kept in `--out` as it is measured, and not measured again; a collection that `--minutes` cuts off is gone on with by
the next call. Weights are random, in the published geometry and layout (`benchmarks/random_weights.py`): Wan2.1-T2V-1.3B with its whole
text encoder, Qwen2.5-VL-7B, Qwen2.5-7B. Settings are those of `recipes/wan21.yaml` but for the number of prompts and rounds.

The stand-in, ours, does the same work with the same code as people's scripts do: for every prompt and round all models are built and
read anew, one video at a time, PyTorch's attention, nothing compiled. Its time leaves Python's own start out. `collect`'s counts all,
loading and compiling too, over 8 prompts. A random judge and rewriter answer to their longest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.collect_speed_bench import Speed
from benchmarks.collect_speed_parts import arithmetic, cached, collect, profile, small_card, stand_in, ways, weights
from benchmarks.multi_gpu_bench import Line

PARTS: dict[str, Callable[[Speed], list[Line]]] = {
    part.__name__: part for part in (weights, arithmetic, ways, profile, stand_in, collect, cached, small_card)
}


def main() -> None:
    """Prints the table and fails if something falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=7.5, help="after how long a collection is asked to pause")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="denoising steps of collections")
    parser.add_argument("--few", type=int, default=6, help="denoising steps of the parts ways, profile and small_card")
    parser.add_argument("--threshold", type=float, default=0.05, help="of the first-block cache in the part cached")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    speed = Speed(chosen.out.resolve(), chosen)
    good = True
    print("| what | found | at least | |\n|---|---|---|---|", flush=True)
    for part in chosen.parts:
        try:
            lines = PARTS[part](speed)
        except RuntimeError as error:
            lines = [Line(part, " ".join(str(error).split()), "", False)]
        for line in lines:
            verdict = "" if not line.least else "yes" if line.good else "NO"
            print(f"| {line.what} | {line.got} | {line.least} | {verdict} |", flush=True)
            good = good and line.good
    sys.exit(not good)


if __name__ == "__main__":
    main()
