"""Stands in for `torchrun ... -m opensora.sample.sample`: its arguments, names of files and habits, written from its interface.

As in Open-Sora-Plan at the commit that recipes/open_sora_plan.yaml names: options that it does not know end it, a prompt file ends in
`txt`, one seed for all prompts, a file for each prompt and a sheet of all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.outside_engine import write

TEXTS = ("model_path", "version", "ae", "ae_path", "text_encoder_name_1", "save_img_path", "sample_method", "cache_dir",
         "prediction_type")  # fmt: skip
NUMBERS = ("num_frames", "height", "width", "num_sampling_steps", "fps", "max_sequence_length", "seed",
           "num_samples_per_prompt")  # fmt: skip


def main(words: list[str]) -> int:
    assert words[:5] == ["--standalone", "--nproc_per_node", "1", "-m", "opensora.sample.sample"], words
    assert Path("opensora/sample/sample.py").is_file(), "not run in the program's folder"
    parser = argparse.ArgumentParser()
    for name in TEXTS:
        parser.add_argument(f"--{name}", required=True)
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--guidance_scale", type=float, required=True)
    parser.add_argument("--text_prompt", nargs="+", required=True)
    parser.add_argument("--rescale_betas_zero_snr", action="store_true")
    given = parser.parse_args(words[5:])
    assert Path(given.model_path, "config.json").is_file()
    assert Path(given.ae_path, "config.json").is_file()
    assert given.num_frames % 4 == 1
    assert given.height % 32 == given.width % 32 == 0
    prompts = [line.strip() for line in Path(given.text_prompt[0]).read_text().splitlines()]
    tail = f"gs{given.guidance_scale}_s{given.num_sampling_steps}.mp4"
    for index, prompt in enumerate(prompts):
        write(Path(given.save_img_path) / f"{given.sample_method}_{index}_{tail}", prompt, given.seed)
    write(Path(given.save_img_path) / f"{given.sample_method}_{tail}", "sheet", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
