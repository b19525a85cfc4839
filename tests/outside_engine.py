"""A text-to-video program for tests: grey frames by seed and prompt, in the way that its last argument says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np


def write(path: Path, prompt: str, seed: int, frames: int = 5) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 8.0, (32, 32))
    for number in range(frames):
        frame = np.full((32, 32, 3), seed % 200, np.uint8)
        frame[number : number + 8, : 2 + len(prompt)] = 255
        writer.write(frame)
    writer.release()


def main(prompts: str, output: str, seeds: str, how: str) -> int:
    numbers = [int(line) for line in Path(seeds).read_text().split()] if Path(seeds).is_file() else [int(seeds)]
    texts = Path(prompts).read_text().splitlines()
    with open(os.environ["ENGINE_RECORD"], "a") as record:
        record.write(f"{len(texts)} {os.environ.get('RANK', '-')} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\n")
    for index, (prompt, seed) in enumerate(zip(texts, numbers, strict=True)):
        path = Path(output) / f"clip_{index}_s{seed}.mp4"
        if how == "few" and index == 1:
            continue
        if how in ("hang", "crash") and index == 1:
            if how == "crash":
                path.write_bytes(b"half a vid")
                print("Traceback\nCUDA error: device on fire")
                return 3
            # With a child that holds on as well, and that nobody but the group's signal reaches.
            child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, lambda *a: None)\n"
                                                            "time.sleep(600)"])  # fmt: skip
            Path(os.environ["ENGINE_RECORD"] + ".child").write_text(str(child.pid))
            time.sleep(600)
        write(path, prompt, seed)
        if how == "half" and index == 1:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if how == "twice":
            write(path.with_name(f"clip_{index}_sx.mp4"), prompt, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
