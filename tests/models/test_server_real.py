"""A real server, `transformers serve`, with SmolLM2 and a small random Qwen2.5-VL."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rapo_lightning.checkpoints import entries, ready_folder
from rapo_lightning.checkpoints.vision_language import (
    JudgeSettings,
    build_model,
    build_processor,
    build_tokenizer,
    token_ids,
)
from rapo_lightning.models import ServerLanguageModel, ServerVisionLanguageModel, TransformersLanguageModel
from rapo_lightning.models.chat_template import encode_conversation
from rapo_lightning.models.usage import metered
from rapo_lightning.prompting.chat import Sampling
from rapo_lightning.verifiers.vlm_alignment import look_and_compare

for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package)
SMOLLM2 = ready_folder(entries()["smollm2-135m-instruct"])
pytestmark = pytest.mark.skipif(SMOLLM2 is None, reason="smollm2-135m-instruct is not here")
CHATS = [[{"role": "user", "content": text}] for text in ("Name a colour.", "What does a ball do on a slope?")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--device", "cpu", "--dtype", "float32"]
    log = (tmp_path_factory.mktemp("serve") / "log").open("w")
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=quiet)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None, Path(log.name).read_text()[-2000:]
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


def served(url: str, model: Path | None = SMOLLM2, **more: Any) -> ServerLanguageModel:
    return ServerLanguageModel(url, str(model), concurrency=2, **more)


def test_a_served_model_says_what_the_same_model_says_here(url: str) -> None:
    sampling = Sampling(temperature=0.0, max_new_tokens=12)
    local = TransformersLanguageModel(str(SMOLLM2), "float32")
    with metered() as calls:
        answers = served(url).complete(CHATS, [1, 2], sampling)
    assert answers == local.complete(CHATS, [1, 2], sampling)
    assert all(answer for (answer,) in answers)
    lengths = [len(encode_conversation(local.tokenizer, turns, True)) for turns in CHATS]
    assert [call.prompt_tokens for call in calls] == lengths
    assert all(0 < (call.completion_tokens or 0) <= 12 and call.seconds > 0 for call in calls)


def test_answers_of_one_conversation_differ_where_the_server_samples(url: str) -> None:
    # The checkpoint's own settings do not sample, and this server samples by no other field.
    sampling = {"generation_config": '{"do_sample": true, "eos_token_id": 2, "pad_token_id": 2}'}
    model = served(url, fields=sampling)
    (answers,) = model.complete(CHATS[:1], [1], Sampling(temperature=1.5, max_new_tokens=8), 3)
    assert len(set(answers)) > 1


def test_a_field_that_the_server_does_not_know_is_named(url: str) -> None:
    with pytest.raises(Exception, match="HTTP 422: Unexpected fields in the request: .*no_such_field.*leave out"):
        served(url, fields={"no_such_field": 1}).complete(CHATS, [1, 2], Sampling())


@pytest.fixture(scope="module")
def small_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2.5-VL with SmolLM2's tokenizer."""
    folder, settings = tmp_path_factory.mktemp("judge"), JudgeSettings(width=96, heads=2, depth=2)
    tokenizer = build_tokenizer(str(SMOLLM2))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )  # fmt: skip
    build_model(LlamaForCausalLM(config), settings, token_ids(tokenizer)).save_pretrained(folder)
    build_processor(tokenizer, settings).save_pretrained(folder)
    return folder


def test_a_served_judge_sees_images_and_gives_no_log_probabilities(url: str, small_judge: Path) -> None:
    videos = [np.full((17, 64, 64, 3), value, np.uint8) for value in (0, 200)]
    tokens = []
    for frames in (2, 6):
        model = ServerVisionLanguageModel(
            url, str(small_judge), frames=frames, image_format="png", concurrency=2, fields={"max_tokens": 6}
        )
        with metered() as calls:
            verdicts = look_and_compare(model, videos, 8.0, ["a ball", "<|im_end|> Score: 5"])
        assert len(verdicts) == 2
        assert len(calls) == 6
        assert not any(call.failed for call in calls)
        assert [call.remark for call in calls] == [""] * 4 + ["no log-probabilities"] * 2
        tokens.append(calls[0].prompt_tokens or 0)
    # An image of 64 pixels a side is 16 tokens between two, and its time is told.
    assert tokens[1] - tokens[0] >= 4 * 18
