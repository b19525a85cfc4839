"""A small Qwen2.5-VL around the text model of another: how it is built, and made whole from what was trained of it.

Qwen2's layers with zero attention biases are Llama's, and the multimodal positions of plain text are the plain ones, so the
text half gives the same logits as its base. What is trained and shipped is the vision tower and a LoRA on the text half.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

DELTA, SETTINGS = "judge.safetensors", "judge.json"
VISION, LANGUAGE = "model.visual.", "model.language_model."
"""Where Qwen2.5-VL has its two halves."""
SPARE_TOKENS = {
    "vision_start_token": "<repo_name>", "vision_end_token": "<reponame>", "video_token": "<file_sep>",
    "image_token": "<filename>",
}  # fmt: skip
"""Control tokens of SmolLM2 that its chat never uses, by what they stand for here."""
CHAT_TEMPLATE = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' }}"
    "{% if turn['content'] is string %}{{ turn['content'] }}{% else %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<repo_name><file_sep><reponame>' }}"
    "{% elif part['type'] == 'image' %}{{ '<repo_name><filename><reponame>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_COPIED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
    "rms_norm_eps", "hidden_act", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


@dataclass(frozen=True)
class JudgeSettings:
    """What beside the weights makes a judge.

    Attributes:
        base: The text model: name in the checkpoint manifest, folder, or hub id.
        fps: Frames per second that the processor samples.
        frame_size: Pixels along a side of the square frames.
        depth: Layers of the vision tower.
        width: Width of the vision tower.
        heads: Its attention heads.
        patch: Pixels along a side of a patch; two by two patches of two frames are one token.
        rank: Rank of the LoRA on all linear layers of the text half.
        alpha: Its scale times its rank.
    """

    base: str = "smollm2-135m-instruct"
    fps: float = 8.0
    frame_size: int = 64
    depth: int = 4
    width: int = 192
    heads: int = 4
    patch: int = 8
    rank: int = 8
    alpha: int = 16

    def save(self, folder: Path) -> None:
        """Writes `judge.json`."""
        (folder / SETTINGS).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> JudgeSettings:
        """Reads `judge.json`."""
        return cls(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))


def _config(base: Any, settings: JudgeSettings, tokens: dict[str, int]) -> Qwen2_5_VLConfig:
    half = base.hidden_size // base.num_attention_heads // 2
    rope = getattr(base, "rope_parameters", None) or {"rope_theta": base.rope_theta}
    # A quarter of the frequencies for time, the rest shared by height and width, as in Qwen2.5-VL (16, 24, 24 of 64).
    side = 3 * half // 8
    text = {name: getattr(base, name) for name in _COPIED} | {
        "tie_word_embeddings": base.tie_word_embeddings,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": rope["rope_theta"],
            "mrope_section": [half - 2 * side, side, side],
        },
    }
    vision = {
        "depth": settings.depth, "hidden_size": settings.width, "num_heads": settings.heads,
        "intermediate_size": 4 * settings.width, "out_hidden_size": base.hidden_size, "patch_size": settings.patch,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": settings.frame_size,
        "fullatt_block_indexes": list(range(settings.depth)), "tokens_per_second": 4,
    }  # fmt: skip
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=base.tie_word_embeddings, **tokens
    )


def build_tokenizer(base: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """The base's tokenizer with names for the tokens around a video and a chat template that knows videos."""
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left", extra_special_tokens=SPARE_TOKENS, **options)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor(tokenizer: PreTrainedTokenizerBase, settings: JudgeSettings) -> Qwen2_5_VLProcessor:
    """The processor: square frames as they are, pixels in -1..1, frames sampled at the judge's rate."""
    area = settings.frame_size**2
    common: dict[str, Any] = {
        "size": {"shortest_edge": area, "longest_edge": area}, "patch_size": settings.patch, "merge_size": 2,
        "temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    videos = Qwen2VLVideoProcessor(
        do_sample_frames=True, fps=settings.fps, min_frames=2, cap_pixels_per_frame=False, **common
    )
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=tokenizer,
        video_processor=videos,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(base: nn.Module, settings: JudgeSettings, tokens: dict[str, int]) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL with the text half of `base` and a vision tower that is not trained.

    Args:
        base: A `LlamaForCausalLM`.
        settings: Sizes of the vision tower.
        tokens: The configuration's ids of the control tokens, from `token_ids`.
    """
    model = Qwen2_5_VLForConditionalGeneration(_config(base.config, settings, tokens))
    state = {
        (LANGUAGE + name.removeprefix("model.") if name.startswith("model.") else name): value
        for name, value in base.state_dict().items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    text = [name for name in missing if not name.startswith(VISION)]
    for name, parameter in model.named_parameters():
        if name in text and name.endswith("_proj.bias"):
            nn.init.zeros_(parameter)
            text.remove(name)
    if unexpected or set(text) - {"lm_head.weight"}:
        raise ValueError(f"The base must be a Llama model. Got one with {unexpected[:3]} and without {text[:3]}.")
    model.tie_weights()
    return model


def token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Ids of the control tokens by their names in the configuration."""
    return {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in SPARE_TOKENS.items()}


def load_parts(
    base: str | Path, settings: JudgeSettings
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The model in float32 and the processor, from a base's folder; a folder with a GGUF file is read too."""
    weights = sorted(Path(base).glob("*.gguf"))
    options = {"gguf_file": weights[0].name} if weights else {}
    tokenizer = build_tokenizer(base, **options)
    text = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **options)
    return build_model(text, settings, token_ids(tokenizer)), build_processor(tokenizer, settings)


def merge_delta(model: nn.Module, delta: dict[str, Tensor], scale: float) -> None:
    """Puts a trained vision tower into a model and adds the LoRA to the weights of its text half, in place.

    Args:
        model: What `build_model` gave.
        delta: `judge.safetensors`: the tower's tensors by their names in the model, and `<layer>.lora_A` and `.lora_B`.
        scale: Factor of the LoRA.

    Raises:
        ValueError: If tensors are left over or missing.
    """
    parameters, used = dict(model.named_parameters()), set()
    with torch.no_grad():
        for name, parameter in parameters.items():
            down, up = (f"{name.removesuffix('.weight')}.lora_{side}" for side in "AB")
            if name in delta:
                parameter.copy_(delta[name])
                used.add(name)
            elif down in delta and up in delta:
                parameter.add_(delta[up].float() @ delta[down].float(), alpha=scale)
                used |= {down, up}
    lost = {name for name in parameters if name.startswith(VISION)} - used
    if lost or set(delta) - used:
        raise ValueError(
            f"A judge's delta must fit its base. Got {sorted(set(delta) - used)[:3]} too many, {sorted(lost)[:3]} missing."
        )


def assemble(base: str | Path, delta: Path, folder: Path) -> Path:
    """Makes a whole model that plain `AutoModelForImageTextToText` and `AutoProcessor` read, in bf16.

    Args:
        base: Folder of the text model.
        delta: Folder with `judge.safetensors` and `judge.json`.
        folder: Where to write; written beside it and renamed, so it is whole or not there.
    """
    settings = JudgeSettings.read(delta)
    model, processor = load_parts(base, settings)
    merge_delta(model, load_file(delta / DELTA), settings.alpha / settings.rank)
    text = model.config.text_config
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(part)
    processor.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder
