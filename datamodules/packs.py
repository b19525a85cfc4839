"""Packs: sequences side by side in a fixed number of tokens, what they begin with in common held once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor

IGNORED = -100
"""Label of tokens without loss."""
BLOCK = 128
"""Packs have a multiple of so many tokens, which is a block of FlexAttention's masks."""
_LOOKED_AT = 2048
"""Examples of an epoch that the size of its packs is chosen by (ours)."""
_PASS = 128
"""What a forward and backward pass costs beside its tokens, in tokens (ours, not measured): reading the weights."""

Text = tuple[list[int], list[int]]
"""Token ids of a sequence, and its labels."""


def common_length(sequences: Sequence[list[int]]) -> int:
    """Number of tokens that sequences begin with in common, less one where one of them would have no other.

    Args:
        sequences: Token ids, at least one sequence; none is empty.
    """
    # Between the first and the last in order lies every other.
    first, last = min(sequences), max(sequences)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return min(alike, min(map(len, sequences)) - 1)


def branched(texts: Sequence[Text], common: int) -> int:
    """Where the sequences of one example part, counted from their beginning.

    Args:
        texts: Its sequences.
        common: Number of tokens that the sequences of all examples begin with.
    """
    return max(common, common_length([ids for ids, _ in texts])) if len(texts) > 1 else common


def cost(texts: Sequence[Text], common: int) -> int:
    """Tokens that an example takes in a pack; arguments as `branched`."""
    parted = branched(texts, common)
    return parted - common + sum(len(ids) - parted for ids, _ in texts)


def best_fit(costs: Sequence[int], room: int) -> list[list[int]]:
    """Deals items out to packs: the largest first, each into the fullest pack that has room for it (best fit, decreasing).

    Args:
        costs: Tokens of each item.
        room: Tokens of a pack, at least as many as the largest item has.

    Returns:
        Indices of the items in each pack.
    """
    packs: list[list[int]] = []
    left: list[int] = []
    for item in sorted(range(len(costs)), key=lambda index: -costs[index]):
        fitting = [place for place, tokens in enumerate(left) if tokens >= costs[item]]
        if fitting:
            place = min(fitting, key=lambda index: left[index])
        else:
            place = len(packs)
            packs.append([])
            left.append(room)
        packs[place].append(item)
        left[place] -= costs[item]
    return packs


def pack_size(steps: Sequence[Sequence[int]], common: int, least: int, most: int, world: int = 1) -> int:
    """The size of packs that takes the least for the steps of an epoch (ours), of equally good ones the largest.

    A step has the pairs that the recipe says, so its last pack is not full: packs of 8192 would hold steps of 9000 tokens at a
    waste of 45 %. Packs of less than half of `most` are chosen only where a device's share of a step needs no more.

    Args:
        steps: Tokens that each example of a step takes, by step; the first of them decide.
        common: Tokens that every pack begins with.
        least: Tokens of a pack with the largest example.
        most: Most tokens of a pack, at least `least` and a multiple of `BLOCK`.
        world: Number of devices.
    """
    looked_at = steps[: max(1, _LOOKED_AT // max(1, max(map(len, steps))))]
    share = common + max(map(sum, looked_at)) // world
    smallest = -(-max(least, min(most // 2, share)) // BLOCK) * BLOCK

    def taken(size: int) -> int:
        return sum((size + _PASS) * -(-len(best_fit(step, size - common)) // world) for step in looked_at)

    return min(range(smallest, most + 1, BLOCK), key=lambda size: (taken(size), -size), default=most)


def lay_pack(examples: Sequence[Sequence[Text]], prefix: Sequence[int], size: int, pad: int) -> dict[str, Tensor]:
    """Lays examples into a pack: what all begin with, then each example, what its sequences begin with before what each has alone.

    The pack is a tree laid out depth first: a token is seen by those behind it as far as its branch reaches, and positions
    go on from where a branch begins.

    Args:
        examples: The sequences of each, all examples with equally many.
        prefix: Token ids that all sequences begin with.
        size: Tokens of the pack.
        pad: Token id that fills it up.

    Returns:
        `input_ids` and `position_ids` `(1, size)`; `until` `(size,)`, the position that a token is no longer seen from; of each
        token with a label `where` (the position that predicts it), `targets` and `owner` (its sequence), each `(labels,)`;
        and `counts` `(sequences,)`, the labels of each. First sequences of all examples come first, then second ones.
    """
    used = len(prefix) + sum(cost(texts, len(prefix)) for texts in examples)
    ids, positions, until = list(prefix), list(range(len(prefix))), [used] * len(prefix)
    where: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    counts = [0] * (len(examples) * (len(examples[0]) if examples else 0))

    def put(tokens: list[int], first: int, end: int) -> int:
        place = len(ids)
        ids.extend(tokens)
        positions.extend(range(first, first + len(tokens)))
        until.extend([end] * len(tokens))
        return place

    for number, texts in enumerate(examples):
        parted = branched(texts, len(prefix))
        end = len(ids) + cost(texts, len(prefix))
        trunk = put(texts[0][0][len(prefix) : parted], len(prefix), end) - len(prefix)
        for side, (tokens, labels) in enumerate(texts):
            branch = put(tokens[parted:], parted, len(ids) + len(tokens) - parted) - parted
            counted = [index for index, label in enumerate(labels) if index and label != IGNORED]
            for index in counted:
                before = index - 1
                where.append(before + (branch if before >= parted else trunk if before >= len(prefix) else 0))
            targets.extend(labels[index] for index in counted)
            counts[side * len(examples) + number] = len(counted)
            owner.extend([side * len(examples) + number] * len(counted))
    rest = range(len(ids), size)
    rows = {"input_ids": [*ids, *([pad] * len(rest))], "position_ids": [*positions, *([0] * len(rest))]}
    flat = {"where": where, "targets": targets, "owner": owner, "counts": counts}
    return {
        **{name: torch.tensor([row], dtype=torch.long) for name, row in rows.items()},
        # What fills up sees itself alone, so that a whole block of it costs nothing.
        "until": torch.tensor([*until, *(place + 1 for place in rest)], dtype=torch.int32),
        **{name: torch.tensor(row, dtype=torch.long) for name, row in flat.items()},
    }
