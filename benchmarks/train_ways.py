"""The ways that `train_speed.py` measures: the engine `lightning`, by the product's own module, objectives and batches, and TRL."""

from __future__ import annotations

import importlib.metadata
import inspect
import random
import time
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from tempfile import gettempdir
from types import SimpleNamespace
from typing import Any

import torch

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
WARM = 3
"""Steps before the clock starts: what is compiled is compiled in them."""
STEP = {"plain": 128, "instruction": 128, "dpo": 64}
"""Pairs of an optimizer step of ours; the more there are, the fuller are the packs."""
TRL_PACK, TRL_ACCUMULATION = 4096, 4
Measured = tuple[float, float, str]
"""Pairs of a measured step, seconds of all of them, and a note."""


def base(options: Namespace, attention: str = "sdpa") -> Any:
    """A model of random weights, made where it trains: Qwen2.5-7B's sizes, or tiny ones."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
    )  # fmt: skip
    sizes = dict(zip(names, (64, 2, 4, 2, 128, 512) if options.tiny else options.geometry, strict=True))
    config = Qwen2Config(**sizes, max_position_embeddings=32768, rms_norm_eps=1e-6, tie_word_embeddings=False)
    config._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if GPU else torch.float32)
    with torch.device(DEVICE):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(before)
    return model


def rows(case: str, count: int, options: Namespace) -> list[dict[str, list[int]]]:
    """Pairs of random tokens: `prompt_ids`, `chosen_ids` and `rejected_ids`."""
    draw = random.Random(0)
    words, part = (500, 8) if options.tiny else (options.geometry[-1] - 1000, 1)

    def some(count: int) -> list[int]:
        return [draw.randrange(10, words) for _ in range(max(count, 1))]

    instruction = some(400 // part)
    if case == "plain":
        # The first token is that of the prompt: nothing predicts it.
        return [
            {"prompt_ids": some(1), "chosen_ids": some(draw.randint(63, 511) // part), "rejected_ids": []}
            for _ in range(count)
        ]
    return [
        {"prompt_ids": instruction + some(20 // part)}
        | {f"{side}_ids": some(draw.randint(100, 220) // part) for side in ("chosen", "rejected")}
        for _ in range(count)
    ]


def tokens_of(case: str, pairs: list[dict[str, list[int]]]) -> float:
    """Mean tokens of a pair, of both its texts in `dpo`."""
    sides = ("chosen_ids", "rejected_ids") if case == "dpo" else ("chosen_ids",)
    return sum(len(pair["prompt_ids"]) + len(pair[side]) for pair in pairs for side in sides) / len(pairs)


class Watch:
    """Seconds from the end of the warm-up on, the device having done what it was told."""

    def __init__(self, steps: int) -> None:
        """Takes the number of measured steps."""
        self.last, self.seconds, self.begun = WARM + steps, 0.0, 0.0

    def done(self, step: int) -> None:
        """A step was done."""
        if step in (WARM, self.last):
            if GPU:
                torch.cuda.synchronize()
            self.begun, self.seconds = time.perf_counter(), time.perf_counter() - self.begun


def _lightning_trainer(done: Callable[[int], None]) -> Any:
    import lightning

    class Clock(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            done(trainer.global_step)

    return lightning.Trainer(
        accelerator=DEVICE, devices=1, precision="bf16-mixed" if GPU else "32-true", max_epochs=1, gradient_clip_val=1.0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[Clock()],
    )  # fmt: skip


def run_ours(case: str, way: str, options: Namespace) -> Measured:
    """Trains with padding, packs, or packs with the frozen base in eight bits."""
    from datamodules import PairDataModule
    from datamodules.packs import IGNORED
    from rapo_lightning.recipe import Lora, Stage3
    from rapo_lightning.recipe.training import ALL_LINEAR, Optimizer
    from rapo_lightning.stage3.adapter import trainable
    from rapo_lightning.stage3.engines.lightning.module import RefinerModule
    from rapo_lightning.stage3.float8 import freeze_in_float8
    from rapo_lightning.stage3.objectives import OBJECTIVES
    from rapo_lightning.stage3.packing import made_ready

    watch, step = Watch(options.steps), options.batch_size or STEP[case] // (8 if options.tiny else 1)
    packed, steps = way != "padding", WARM + options.steps
    # The largest that divides a step, as a recipe must have it.
    micro = next(size for size in range(min(options.micro, step), 0, -1) if step % size == 0)
    optimizer = Optimizer(batch_size=step, micro_batch_size=micro, pack_tokens=options.pack_tokens)
    lora = Lora(r=64, alpha=64, dropout=0.0, target_modules=[ALL_LINEAR])
    stage3 = Stage3(objective="dpo" if case == "dpo" else "sft", lora=lora, optimizer=optimizer)
    objective: Any = OBJECTIVES[stage3.objective](stage3, SimpleNamespace(pad_token_id=0))
    pairs: list[dict[str, Any]] = rows(case, step * steps, options)
    if case != "dpo":
        halves = [(pair["prompt_ids"], pair["chosen_ids"]) for pair in pairs]
        pairs = [{"input_ids": head + text, "labels": [IGNORED] * len(head) + text} for head, text in halves]
    model = trainable(base(options), stage3)
    if way == "float8":
        freeze_in_float8(model, torch.device(DEVICE))
    data = PairDataModule(pairs, [], objective, micro, step, 0, pack_tokens=options.pack_tokens * packed)
    with made_ready(model, "packs" if packed else "padding", torch.device(DEVICE)):
        _lightning_trainer(watch.done).fit(RefinerModule(model, objective, optimizer, 1e-4, 0, steps), data)
    note = f"packs of {data.layout()[1]}" if packed else f"{micro} pairs a pass"
    return step, watch.seconds, f"{step} pairs a step, {note}"


def varlen_attention() -> str:
    """Has transformers know torch's attention over sequences of unequal length, by which TRL packs exactly without FlashAttention."""
    from torch.nn.attention.varlen import varlen_attn
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    known = inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    grouped = {"enable_gqa": True} if "enable_gqa" in known else {}

    def attend(module: Any, q: Any, k: Any, v: Any, mask: Any = None, **given: Any) -> tuple[Any, None]:
        batch, heads, length, width = q.shape
        q, k, v = (item.transpose(1, 2).reshape(batch * length, item.shape[1], width) for item in (q, k, v))
        ends, longest = given["cu_seq_lens_q"], int(given["max_length_q"])
        out = varlen_attn(q, k, v, ends, ends, longest, longest, **causal, **(grouped if k.shape[1] != heads else {}))
        return out.reshape(batch, length, heads, width), None

    AttentionInterface.register("varlen", attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register("varlen", lambda *args, **kwargs: None)
    return "varlen"


def _trl_parts(done: Callable[[int], None]) -> dict[str, Any]:
    """What both of TRL's trainers take beside model, data and arguments."""
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            done(state.global_step)

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "<eos>": 2}, unk_token="<unk>"))
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    return {
        "processing_class": PreTrainedTokenizerFast(tokenizer_object=words, **named),
        "callbacks": [Clock()],
        "peft_config": LoraConfig(r=64, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM"),
    }


def _trl_arguments(options: Namespace, batch: int) -> dict[str, Any]:
    return {
        "output_dir": f"{gettempdir()}/train_speed", "max_steps": WARM + options.steps, "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": TRL_ACCUMULATION, "gradient_checkpointing": False, "bf16": GPU, "use_cpu": not GPU,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "learning_rate": 1e-4, "disable_tqdm": True,
        "use_liger_kernel": has_liger(), "optim": "adamw_torch_fused" if GPU else "adamw_torch",
    }  # fmt: skip


def has_liger() -> bool:
    """Whether TRL can use Liger Kernel here."""
    return GPU and find_spec("liger_kernel") is not None


def run_trl(case: str, options: Namespace) -> Measured:
    """Trains with TRL."""
    note = f"Liger {importlib.metadata.version('liger-kernel')}" if has_liger() else "no Liger"
    pairs, seconds, further = (_trl_dpo if case == "dpo" else _trl_sft)(case, options)
    return pairs, seconds, f"{note}, {further}"


def _trl_dpo(case: str, options: Namespace) -> Measured:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Prepared(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    watch, micro = Watch(options.steps), options.micro
    pairs = rows(case, micro * TRL_ACCUMULATION * (WARM + options.steps), options)
    arguments = DPOConfig(**_trl_arguments(options, micro), max_length=None)
    parts = _trl_parts(watch.done)
    Prepared(model=base(options), args=arguments, train_dataset=Dataset.from_list(pairs), **parts).train()
    return micro * TRL_ACCUMULATION, watch.seconds, f"{micro} pairs a pass"


def _trl_sft(case: str, options: Namespace) -> Measured:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    watch, size, pack = Watch(options.steps), max(options.micro // 4, 1), TRL_PACK // (8 if options.tiny else 1)
    passes = TRL_ACCUMULATION * (WARM + options.steps)
    pairs = rows(case, int(size * pack * passes / tokens_of(case, rows(case, 1000, options))) + 1, options)
    halves = [(pair["prompt_ids"], pair["chosen_ids"]) for pair in pairs]
    kept = Dataset.from_list([
        {"input_ids": head + text, "completion_mask": [0] * len(head) + [1] * len(text)} for head, text in halves
    ])  # fmt: skip
    # At its best on Hopper: packs by best fit, compiled, without checkpointing.
    how = {"packing": True, "max_length": pack, "completion_only_loss": True, "torch_compile": GPU}
    arguments = SFTConfig(**_trl_arguments(options, size), **how)
    model = base(options, varlen_attention() if GPU else "sdpa")
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=kept, **_trl_parts(watch.done))
    trainer.train()
    # Packs are not quite full.
    held = len(pairs) / len(trainer.train_dataset)
    return held * size * TRL_ACCUMULATION, watch.seconds, f"{size} packs of {pack} a pass"
