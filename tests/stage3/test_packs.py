"""Packs are the mathematics of padding: the same losses and gradients, whatever lies beside what."""

from __future__ import annotations

from types import MethodType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from datamodules.packs import BLOCK, IGNORED, best_fit, common_length, cost, lay_pack, pack_size
from datamodules.steps import PackedShares, StepOrder
from rapo_lightning.recipe import Lora, Stage3
from rapo_lightning.stage3.adapter import trainable
from rapo_lightning.stage3.objectives import OBJECTIVES, packed
from rapo_lightning.stage3.packing import made_ready

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
MODELS = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}
INSTRUCTION = [5, 9, 11, 7, 3, 2, 8, 6, 1, 4, 12, 13]


def exact_norm(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMSNorm; transformers computes it in float32 whatever the model is in."""
    return layer.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon)


def tiny(kind: str, stage3: Stage3) -> Any:
    """A model of random weights in float64, its adapter too."""
    torch.manual_seed(2)
    model, config = MODELS[kind]
    adapted = trainable(model(config(**SIZES, tie_word_embeddings=False)).eval(), stage3).double()
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    for layer in adapted.modules():
        if "RMSNorm" in type(layer).__name__:
            layer.forward = MethodType(exact_norm, layer)
    return adapted


def examples(objective: str) -> list[dict[str, Any]]:
    """Examples behind one instruction: one with an answer of one token, two with the same request."""
    generator = torch.Generator().manual_seed(4)

    def some(count: int) -> list[int]:
        return torch.randint(20, 97, (count,), generator=generator).tolist()

    found, request = [], some(4)
    for length in (6, 1, 9, 3):
        head, answer, other = INSTRUCTION + (request if length < 6 else some(length // 2)), some(length), some(7)
        if objective == "dpo":
            # Both answers begin alike.
            found.append({"prompt_ids": head, "chosen_ids": answer, "rejected_ids": answer[: length // 2] + other})
        else:
            found.append({"input_ids": head + answer, "labels": [IGNORED] * len(head) + answer})
    return [{**item, "weight": 0.5 + place} for place, item in enumerate(found)] if "weight" in objective else found


def form(objective: str, stage3: Stage3) -> Any:
    return OBJECTIVES[objective](stage3, SimpleNamespace(pad_token_id=0))


def pack(made: Any, rows: list[dict[str, Any]], size: int = 128) -> dict[str, torch.Tensor]:
    texts = [made.texts(row) for row in rows]
    prefix = INSTRUCTION[: common_length([ids for sequences in texts for ids, _ in sequences])]
    return lay_pack(texts, prefix, size, 0) | made.extras(rows)


def slopes(model: Any, total: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    total.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("objective", ["sft", "weighted_sft", "dpo"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_a_pack_has_the_loss_and_gradients_of_each_pair_alone(kind: str, objective: str, checkpointing: bool) -> None:
    settings = Stage3(objective=objective, lora=Lora(r=2, dropout=0.0), gradient_checkpointing=checkpointing)
    model, made, rows = tiny(kind, settings), form(objective, settings), examples(objective)
    alone = [made.loss(model, made.collate([row])) for row in rows]
    expected = slopes(model, sum(loss.total for loss in alone))
    with made_ready(model, "packs", torch.device("cpu")):
        found = made.loss(model, pack(made, rows))
        gradients = slopes(model, found.total)
    assert float(found.total.detach()) == pytest.approx(sum(float(loss.total.detach()) for loss in alone), rel=1e-6)
    assert int(found.count) == sum(int(loss.count) for loss in alone)
    for name, (share, of) in found.shares.items():
        assert [int(share), int(of)] == [sum(int(loss.shares[name][place]) for loss in alone) for place in (0, 1)]
    assert any(float(gradient.norm()) > 1e-3 for gradient in expected)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", ["sft", "weighted_sft", "dpo"])
def test_an_empty_pack_counts_for_nothing_and_has_gradients(objective: str) -> None:
    settings = Stage3(objective=objective, lora=Lora(r=2, dropout=0.0))
    model, made = tiny("llama", settings), form(objective, settings)
    found = made.loss(model, lay_pack([], INSTRUCTION, 128, 0) | made.extras([]))
    assert (float(found.total.detach()), int(found.count)) == (0, 0)
    # DistributedDataParallel waits for all of them.
    assert all(float(gradient.abs().sum()) == 0 for gradient in slopes(model, found.total))


def test_a_token_sees_its_own_sequence_alone() -> None:
    made = form("dpo", Stage3(objective="dpo"))
    rows = examples("dpo")
    found = pack(made, rows)
    ids, positions = found["input_ids"][0].tolist(), found["position_ids"][0].tolist()
    mask = packed.pack_mask(found["until"])[0, 0]
    texts = [made.texts(row) for row in rows]
    sequences = [texts[number][side][0] for side in range(2) for number in range(len(rows))]
    for place, owner in zip(found["where"].tolist(), found["owner"].tolist(), strict=True):
        seen = [key for key in range(len(ids)) if mask[place, key]]
        assert [positions[key] for key in seen] == list(range(len(seen)))
        assert [ids[key] for key in seen] == sequences[owner][: len(seen)]
    assert found["counts"].sum() == len(found["targets"])
    used = len(INSTRUCTION) + sum(cost(sequences, len(INSTRUCTION)) for sequences in texts)
    assert mask[used:].sum() == len(ids) - used
    assert used < sum(len(row) for row in sequences) - 3 * len(INSTRUCTION)


def test_flex_attention_is_attention_under_the_whole_mask() -> None:
    until = pack(form("sft", Stage3()), examples("sft"))["until"]
    query, key, value = (torch.randn(1, heads, len(until), 16) for heads in (4, 2, 2))

    def seen(batch: Any, head: Any, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        return (column <= row) & (row < until[column])

    blocks = create_block_mask(seen, None, None, len(until), len(until), device="cpu")
    found, _ = packed.pack_attention(None, query, key, value, blocks, scaling=0.3)
    whole = scaled_dot_product_attention(query, key, value, packed.pack_mask(until), scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, whole.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_losses_behind_a_head_are_cross_entropies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_CHUNK", 3)
    hidden = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(11, 5, dtype=torch.float64), torch.randn(11, dtype=torch.float64)
    targets = torch.randint(11, (8,))
    expected = cross_entropy(linear(hidden, weight, bias), targets, reduction="none")
    torch.testing.assert_close(packed.HeadLosses.apply(hidden, weight, bias, targets), expected)
    assert torch.autograd.gradcheck(lambda rows: packed.HeadLosses.apply(rows, weight, bias, targets), (hidden,))


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(40, 90))
@settings(max_examples=50, deadline=None)
def test_best_fit_holds_every_item_once(costs: list[int], room: int) -> None:
    packs = best_fit(costs, room)
    assert sorted(item for found in packs for item in found) == list(range(len(costs)))
    assert all(sum(costs[item] for item in found) <= room for found in packs)
    # No two packs would fit into one: at most one is not more than half full.
    assert sum(sum(costs[item] for item in found) <= room // 2 for found in packs) <= 1


def test_the_size_of_packs_wastes_little() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(64, 513, (20, 32), generator=generator).tolist()
    size = pack_size(steps, 0, 512, 8192)
    assert size % BLOCK == 0
    assert 4096 <= size <= 8192
    taken = sum(size * len(best_fit(step, size)) for step in steps)
    assert sum(map(sum, steps)) / taken > 0.85
    assert sum(map(sum, steps)) / sum(8192 * len(best_fit(step, 8192)) for step in steps) < 0.7
    # A step that one small pack holds gets one, and a share of it on each device.
    assert pack_size([[100] * 8], 0, 100, 8192) == 896
    assert pack_size([[100] * 8], 28, 128, 8192, world=4) == 256


@pytest.mark.parametrize("count", [4, 5, 11])
def test_devices_have_equal_numbers_of_packs_and_each_pair_once(count: int) -> None:
    shares = [
        list(PackedShares(StepOrder([3] * count, 4, 1), 4, [30 + index for index in range(count)], 70, 2, rank))
        for rank in range(2)
    ]
    assert [len(step) for step in shares[0]] == [len(step) for step in shares[1]]
    assert sorted(index for share in shares for step in share for part in step for index in part) == list(range(count))
    order = list(StepOrder([3] * count, 4, 1))
    for number, (one, other) in enumerate(zip(*shares, strict=True)):
        assert {index for part in one + other for index in part} == set(order[4 * number : 4 * number + 4])


def test_a_model_is_left_as_it_was() -> None:
    model = tiny("llama", Stage3(lora=Lora(r=2)))
    before = model.get_base_model().config._attn_implementation
    with made_ready(model, "packs", torch.device("cpu")):
        assert model.get_base_model().config._attn_implementation == "sdpa"
    assert model.get_base_model().config._attn_implementation == before


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_are_one_graph_whatever_is_in_a_pack(checkpointing: bool) -> None:
    settings = Stage3(objective="dpo", lora=Lora(r=2, dropout=0.1), gradient_checkpointing=checkpointing)
    model, made, rows = tiny("qwen2", settings), form("dpo", settings), examples("dpo")
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with made_ready(model, "packs", torch.device("cpu")):
        for layer in model.get_base_model().model.layers:
            layer.compile(dynamic=False, fullgraph=True, backend=backend)
        counts = []
        for chosen in (rows, rows[1:], rows[:1]):
            slopes(model, made.loss(model, pack(made, chosen)).total)
            counts.append(len(graphs))
    # The reference without gradients, the first layer, whose input has none, and all others; nothing compiles again.
    assert counts == [3, 3, 3]
    torch._dynamo.reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention is trained with on a GPU alone")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("objective", ["sft", "weighted_sft", "dpo"])
def test_a_compiled_pack_on_a_gpu_is_that_of_the_cpu(objective: str, checkpointing: bool) -> None:
    settings = Stage3(objective=objective, lora=Lora(r=2, dropout=0.0), gradient_checkpointing=checkpointing)
    made, rows = form(objective, settings), examples(objective)
    packs = [pack(made, chosen, 256) for chosen in (rows, rows[1:], rows[:2])]
    found = {}
    for device in ("cpu", "cuda"):
        torch.manual_seed(2)
        base = Qwen2ForCausalLM(Qwen2Config(**{**SIZES, "hidden_size": 64}, tie_word_embeddings=False)).eval()
        model = trainable(base, settings).to(device)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                generator = torch.Generator().manual_seed(len(name))
                parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        with made_ready(model, "packs", torch.device(device)):
            found[device] = []
            for number, batch in enumerate(packs):
                # What was compiled for the first pack must do for all others.
                with torch._dynamo.config.patch(error_on_recompile=number > 0):
                    loss = made.loss(model, {name: value.to(device) for name, value in batch.items()})
                    found[device] += [loss.total.detach(), *slopes(model, loss.total)]
    for one, other in zip(found["cuda"], found["cpu"], strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-2, atol=1e-3)
