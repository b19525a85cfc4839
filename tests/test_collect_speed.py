"""The benchmark of collection at full size: its arithmetic, its random judge, and that its parts run at tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import random_weights, wan_arithmetic
from benchmarks.scaling import Run, measured
from rapo_lightning.models import TransformersVisionLanguageModel
from tests.helpers import ROOT

WAN21 = {
    "_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128,
    "in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30,
    "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "rope_max_seq_len": 1024,
}  # fmt: skip


def test_formula_and_counter_agree_on_the_arithmetic(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WAN21))
    call = {"height": 480, "width": 832, "num_frames": 81}
    formula = wan_arithmetic.by_formula(SimpleNamespace(**WAN21), call)
    assert wan_arithmetic.by_counter(tmp_path, call) == formula
    # Two passes a step, 50 steps: 28 PFLOP a video.
    assert round(100 * formula / 1e15, 1) == 28.3
    assert wan_arithmetic.matrix_rate(64, 0.01) > 0


def test_random_judge_sees_the_published_number_of_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1,
             "num_key_value_heads": 1}  # fmt: skip
    monkeypatch.setitem(random_weights.QWEN, "7b", {**random_weights.QWEN["7b"], **small})
    for key, value in {"depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 128,
                       "fullatt_block_indexes": [1]}.items():  # fmt: skip
        monkeypatch.setitem(random_weights._VISION, key, value)
    folder = random_weights.qwen_vl(tmp_path / "judge", False)
    judge = TransformersVisionLanguageModel(str(folder), sample_fps=2.0)
    video = np.zeros((81, 480, 832, 3), np.uint8)
    judge.load()
    inputs = judge._encode([video], 16.0, [[{"role": "user", "content": "What is shown?"}]], [""])
    # Ten frames in pairs, of 34 x 60 patches of 14 pixels.
    assert inputs["video_grid_thw"].tolist() == [[5, 34, 60]]
    # It answers in letters, to the end.
    made = judge._generate(inputs, 16)
    assert made.shape == (1, 16)
    assert int(made.max()) < judge.processor.tokenizer.vocab_size


def test_a_collection_on_paper() -> None:
    assert measured({"wall": 1060.0, "seconds": {"load": 60.0}, "rounds": 10, "pieces": 2}) == (100.0, 30.0)
    run = Run(12000, 5, seconds=60.0, load=60.0, price=2.0, megabytes=1.0)
    assert (round(run.hours), round(run.cost), run.gigabytes) == (1000, 2000, 60.0)
    # 188 prompts on the fullest of 64.
    assert replace(run, gpus=64).hours == (60 + 188 * 5 * 60) / 3600
    # A process lost every hour costs 90 s of each.
    assert replace(run, failures=1.0).hours == pytest.approx(run.hours / (1 - 90 / 3600))
    assert replace(run, failures=100.0).hours == float("inf")


@pytest.mark.slow
def test_parts_run_at_tiny_size_and_keep_what_they_measured(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/collect_speed.py", "--out", str(tmp_path), "--tiny", "--prompts", "1",
               "--parts", "weights", "arithmetic", "profile", "stand_in", "collect", "small_card"]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
        assert "`collect` against the stand-in" in done.stdout, done.stdout + done.stderr
        assert "1.0000" in done.stdout
        kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert {"arithmetic.json", "profile.json", "stand_in.json", "collect.json", "small_card.json"} == set(kept)
    found = json.loads((tmp_path / "collect.json").read_text())
    assert (found["rounds"], found["pieces"]) == (2, 1)
    assert {"load", "encode", "denoise", "decode", "judge", "rewrite"} <= set(found["seconds"])
