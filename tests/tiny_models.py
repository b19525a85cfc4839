"""Tiny random copies of the models that the Wan recipes name, in the folder layout they are published in.

Shrunk are widths, depths and vocabularies; classes, configuration keys, file names and formats are the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from rapo_lightning.checkpoints.vision_language import SPARE_TOKENS, JudgeSettings, load_parts

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'-\"()"
TEXTS = ["a red ball rolls slowly over the floor", "a small dog jumps into a lake and swims", "rewrite the prompt"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% for turn in messages %}{{ '<|im_start|>' + turn['role'] + '\n' + turn['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for turn in messages %}{{ '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\n\n'"
    " + turn['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SPARE_CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def qwen_vl(folder: Path, width: int = 96) -> Path:
    """A Qwen2.5-VL in the published layout around a random Llama of two layers, with a processor for 64 x 64 pixels."""
    base = folder / "text"
    special = [*SPARE_CHAT_TOKENS, *SPARE_TOKENS.values()]
    size = byte_tokenizer(base, special, CHATML, bos_token=special[1], eos_token=special[2], pad_token=special[2])
    torch.manual_seed(0)
    ids = {"bos_token_id": size - len(special) + 1, "eos_token_id": size - len(special) + 2}
    config = LlamaConfig(
        vocab_size=size, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, pad_token_id=ids["eos_token_id"], **ids,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(base)
    model, processor = load_parts(base, JudgeSettings(width=width, heads=2, depth=2))
    model.save_pretrained(folder / "vlm")
    processor.save_pretrained(folder / "vlm")
    return folder / "vlm"


def _rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def t5_tokenizer() -> T5TokenizerFast:
    """A sentencepiece-like tokenizer of single letters, with T5's special tokens."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -1.0) for letter in "▁" + LETTERS)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return T5TokenizerFast(tokenizer_object=backend, extra_ids=0, model_max_length=512)


def byte_tokenizer(folder: Path, special: list[str], template: str, **options: Any) -> int:
    """Saves a byte-level BPE tokenizer with special tokens after the vocabulary; returns its size."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, **options)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return len(fast)


def wan_transformer() -> WanTransformer3DModel:
    """The transformer of Wan2.1 and 2.2."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    )
    # Wider weights than training starts from, so that the prompt shows in the pixels.
    for parameter in transformer.parameters():
        parameter.data.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return transformer


def wan(folder: Path, **more: Any) -> Path:
    """Wan2.1-T2V-1.3B-Diffusers; `more` are further parts."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    transformer = wan_transformer()
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(
            UMT5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
                       feed_forward_proj="gated-gelu", is_gated_act=True)
        ),
        transformer=transformer,
        vae=AutoencoderKLWan(
            base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, attn_scales=[],
            temperal_downsample=[False, True, True],
        ),
        scheduler=UniPCMultistepScheduler(
            num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0,
            solver_order=2, solver_type="bh2", predict_x0=True, final_sigmas_type="zero", timestep_spacing="linspace",
        ),
        **more,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def wan22(folder: Path) -> Path:
    """Wan2.2-T2V-A14B-Diffusers: a second transformer for the steps with little noise."""
    torch.manual_seed(1)
    return wan(folder, transformer_2=wan_transformer(), boundary_ratio=0.875)


def qwen(folder: Path, width: int = 32) -> Path:
    """Qwen2.5-7B-Instruct."""
    torch.manual_seed(0)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    size = byte_tokenizer(folder, special, CHATML, eos_token=special[2], pad_token=special[0], model_max_length=131072)
    _rewrite(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer", add_bos_token=False)
    end = size - 1
    config = Qwen2Config(
        vocab_size=size, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32768, rms_norm_eps=1e-6, tie_word_embeddings=False,
        bos_token_id=size - 3, eos_token_id=end,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    # The published settings sample; whoever decodes otherwise must say so.
    values = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    model.generation_config.update(**values, eos_token_id=[end, size - 3], pad_token_id=size - 3)
    model.save_pretrained(folder)
    return folder


def llama(folder: Path) -> Path:
    """Llama-3.1-8B-Instruct."""
    torch.manual_seed(0)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    size = byte_tokenizer(folder, special, HEADERS, bos_token=special[0], eos_token=special[4])
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=131072, bos_token_id=size - 5, eos_token_id=size - 1,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def llama_rewriter(base: Path, folder: Path) -> Path:
    """A LoRA of rank 64 on `base`, as PEFT saves one: adapter_config.json and adapter_model.safetensors."""
    torch.manual_seed(1)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=64, lora_alpha=64, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    return folder


def minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2."""
    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *LETTERS.lower(), *(f"##{letter}" for letter in LETTERS.lower())]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names).save_pretrained(folder)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=64, max_position_embeddings=512)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256, "do_lower_case": False}))
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
               "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}  # fmt: skip
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


ALL: dict[str, Callable[[Path], Path]] = {
    "video_model": wan,
    "language_model": qwen,
    "vision_language_model": qwen_vl,
    "embedder": minilm,
}
"""Builders by the field of the recipe."""
