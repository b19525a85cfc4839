"""Pairs for the refiner: tokenized once, loss on the completion only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from rapo_lightning.errors import UserError
from rapo_lightning.stage3.pairs import SftPair

IGNORED = -100
"""Label of tokens without loss."""
Tokens = dict[str, list[int]]


def tokenize_pairs(pairs: Sequence[SftPair], tokenizer: Any) -> list[Tokens]:
    """Token ids of pairs and their labels, which are `IGNORED` up to the completion.

    Args:
        pairs: The pairs.
        tokenizer: A chat tokenizer; it gets all texts at once, which is many times faster than one by one.
    """
    if not pairs:
        return []
    heads = [tokenizer.apply_chat_template(p.prompt, tokenize=False, add_generation_prompt=True) for p in pairs]
    wholes = [tokenizer.apply_chat_template(p.prompt + p.completion, tokenize=False) for p in pairs]
    # The template's line break after the last turn is not part of the answer.
    answers = [whole[len(head) :].rstrip("\n") for head, whole in zip(heads, wholes, strict=True)]
    ids_heads = tokenizer(heads, add_special_tokens=False)["input_ids"]
    ids_answers = tokenizer(answers, add_special_tokens=False)["input_ids"]
    return [
        {"input_ids": head + answer, "labels": [IGNORED] * len(head) + answer}
        for head, answer in zip(ids_heads, ids_answers, strict=True)
    ]


class PairDataModule(lightning.LightningDataModule):
    """Batches of `input_ids`, `attention_mask`, `labels`, each `(batch, length)`, padded on the right.

    The order of an epoch is a function of seed and epoch, so a resumed run sees what an unbroken one would.
    """

    def __init__(
        self,
        training: Sequence[SftPair],
        validation: Sequence[SftPair],
        tokenizer: Any,
        batch_size: int,
        max_length: int,
        seed: int,
    ) -> None:
        """Tokenizes the pairs.

        Args:
            training: Pairs to train on.
            validation: Pairs for the validation loss, may be empty.
            tokenizer: A chat tokenizer.
            batch_size: Pairs per batch and device.
            max_length: Longest pair in tokens; longer ones are dropped with a warning.
            seed: Seed of the order.

        Raises:
            UserError: If no training pair is left.
        """
        super().__init__()
        self.batch_size, self.max_length, self.seed = batch_size, max_length, seed
        self.pad_id = tokenizer.pad_token_id
        self.training = self._fitting(tokenize_pairs(training, tokenizer))
        self.validation = self._fitting(tokenize_pairs(validation, tokenizer))
        if not self.training:
            raise UserError(
                f"Fine-tuning needs at least one training pair. Got none of {len(training)} within "
                f"`stage3.max_length` {max_length} tokens; collect more prompts or rounds, or relax `stage3.pairs`."
            )

    def _fitting(self, examples: list[Tokens]) -> list[Tokens]:
        kept = [example for example in examples if len(example["input_ids"]) <= self.max_length]
        if len(kept) < len(examples):
            rank_zero_warn(f"{len(examples) - len(kept)} pairs exceed {self.max_length} tokens and are left out.")
        return kept

    def _collate(self, examples: list[Tokens]) -> dict[str, Tensor]:
        length = max(len(example["input_ids"]) for example in examples)

        def padded(key: str, value: int) -> Tensor:
            return torch.tensor([example[key] + [value] * (length - len(example[key])) for example in examples])

        ids = padded("input_ids", self.pad_id)
        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        mask = (torch.arange(length)[None] < lengths[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": padded("labels", IGNORED)}

    def _loader(self, examples: list[Tokens], shuffle: bool) -> DataLoader[Tokens]:
        world = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        sampler: DistributedSampler[Tokens] = DistributedSampler(
            examples,  # type: ignore[arg-type]
            num_replicas=world,
            rank=rank,
            shuffle=shuffle,
            seed=self.seed,
        )
        return DataLoader(examples, batch_size=self.batch_size, sampler=sampler, collate_fn=self._collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Tokens]:
        """Training batches; Lightning tells the sampler the epoch."""
        return self._loader(self.training, shuffle=True)

    def val_dataloader(self) -> DataLoader[Tokens] | list[Any]:
        """Validation batches; none if there are no validation pairs."""
        return self._loader(self.validation, shuffle=False) if self.validation else []
