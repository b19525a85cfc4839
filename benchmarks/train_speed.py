"""How fast a LoRA trains: TRL at its best, the engine `lightning` with padding, and with packs; prints a markdown table.

    python benchmarks/train_speed.py                                  # Qwen2.5-7B's geometry, on a GPU of 80 GB
    python benchmarks/train_speed.py --tiny                           # a tiny model, on a CPU: whether it runs
    python benchmarks/train_speed.py --ways trl packs --cases instruction --steps 20

Weights and tokens are random; adapters have rank 64 on all linear layers and no dropout, which TRL's default has not either.
Each way trains in a process of its own. `plain`: pairs of 64 to 512 tokens that are all trained on; `instruction`: requests of
20 tokens and completions of 100 to 220 behind an instruction of 400, and `dpo`: the same with a chosen and a rejected completion.
`float8` is packs with the frozen base in eight bits (on a CPU their arithmetic alone, which says nothing). Tokens are those of the pairs,
each with its instruction and without padding, whether a way computes them or not.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from train_ways import GPU, has_liger, rows, run_ours, run_trl, tokens_of

CASES, WAYS = ("plain", "instruction", "dpo"), ("trl", "padding", "packs", "float8")
MICRO = 8
"""Pairs of a padded forward pass, halved until they fit into memory; two packs of TRL's at first."""
OUT_OF_MEMORY = 3


def measure(options: argparse.Namespace) -> None:
    """Measures one way with one case in this process."""
    case, way = options.cases[0], options.ways[0]
    torch.manual_seed(0)
    try:
        step, seconds, note = run_trl(case, options) if way == "trl" else run_ours(case, way, options)
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    rate = step * options.steps / seconds
    peak = torch.cuda.max_memory_allocated() / 1e9 if GPU else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    mean = tokens_of(case, rows(case, 1000, options))
    print("\nRESULT " + json.dumps({"tokens": rate * mean, "pairs": rate, "peak": peak, "note": note}), flush=True)


def row(case: str, way: str) -> str:
    """A row of the table, by a process of its own."""
    micro = MICRO
    while micro:
        # Of an option that is given twice the last one counts.
        one = ["--one", "--cases", case, "--ways", way, "--micro", str(micro)]
        command = [sys.executable, __file__, *sys.argv[1:], *one]
        done = subprocess.run(command, capture_output=True, text=True)
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if found:
            got = json.loads(found[-1].removeprefix("RESULT "))
            return f"| {case} | {way} | {got['tokens']:,.0f} | {got['pairs']:.1f} | {got['peak']:.1f} | {got['note']} |"
        micro = micro // 2 if done.returncode == OUT_OF_MEMORY and way in ("trl", "padding") else 0
    print(done.stderr[-3000:], file=sys.stderr)
    why = "out of memory" if done.returncode == OUT_OF_MEMORY else (done.stderr.strip().splitlines() or ["?"])[-1][:120]
    return f"| {case} | {way} | | | | failed: {why} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=10, help="measured optimizer steps, after 3 that are not")
    parser.add_argument("--pack_tokens", type=int, default=8192)
    parser.add_argument("--batch_size", type=int, default=0, help="pairs of an optimizer step of ours")
    parser.add_argument("--geometry", nargs=6, type=int, default=[3584, 28, 28, 4, 18944, 152064],
                        help="hidden size, layers, heads, key-value heads, intermediate size, vocabulary")  # fmt: skip
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--micro", type=int, default=MICRO, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options)
        return
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "trl", "peft")
    )
    print(f"{torch.cuda.get_device_name() if GPU else 'CPU'}, {versions}\n")
    print("Liger Kernel " + ("is here, for TRL." if has_liger() else "is not here: TRL goes without."), end="\n\n")
    print("| case | way | tokens/s | pairs/s | peak GB | |\n|---|---|---|---|---|---|", flush=True)
    for case in options.cases:
        for way in options.ways:
            print(row(case, way), flush=True)


if __name__ == "__main__":
    main()
