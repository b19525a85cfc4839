"""Pairs for the refiner: tokenized once, loss on the completion only."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader, DistributedSampler
from transformers import DataCollatorForSeq2Seq

from rapo_lightning.errors import UserError
from rapo_lightning.models.chat_template import encode_pairs
from rapo_lightning.prompting.pairs import SftPair

from .resumable import ResumableLoader

IGNORED = -100
"""Label of tokens without loss."""
Tokens = dict[str, list[int]]


def tokenize_pairs(pairs: Sequence[SftPair], tokenizer: Any) -> list[Tokens]:
    """Token ids of pairs and their labels, which are `IGNORED` up to the completion.

    Args:
        pairs: The pairs.
        tokenizer: A chat tokenizer; it gets all texts at once, which is many times faster than one by one.

    Raises:
        UserError: If its chat template cannot be trained on; see `models.chat_template.encode_pairs`.
    """
    encoded = encode_pairs(tokenizer, [pair.prompt for pair in pairs], [pair.completion for pair in pairs])
    return [{"input_ids": head + answer, "labels": [IGNORED] * len(head) + answer} for head, answer in encoded]


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
            UserError: If no training pair fits, or there are validation pairs and none fits.
        """
        super().__init__()
        self.batch_size, self.max_length, self.seed = batch_size, max_length, seed
        # A copy: the tokenizer itself pads on the left, as answers are generated.
        padding = copy.deepcopy(tokenizer)
        padding.padding_side = "right"
        self.collate = DataCollatorForSeq2Seq(padding, label_pad_token_id=IGNORED)
        self.training = self._fitting(tokenize_pairs(training, tokenizer))
        self.validation = self._fitting(tokenize_pairs(validation, tokenizer))
        for kind, given, kept in (("training", training, self.training), ("validation", validation, self.validation)):
            if not kept and (given or kind == "training"):
                raise UserError(
                    f"Fine-tuning needs a {kind} pair that fits. Got none of {len(given)} within `stage3.max_length` "
                    f"{max_length} tokens; raise it, or shorten `stage3.system`."
                )

    def _fitting(self, examples: list[Tokens]) -> list[Tokens]:
        kept = [example for example in examples if len(example["input_ids"]) <= self.max_length]
        if len(kept) < len(examples):
            rank_zero_warn(f"{len(examples) - len(kept)} pairs exceed {self.max_length} tokens and are left out.")
        return kept

    def steps(self, accumulation: int, world: int) -> int:
        """Optimizer steps of an epoch.

        Args:
            accumulation: Batches per step and device.
            world: Number of devices.
        """
        batches = math.ceil(math.ceil(len(self.training) / world) / self.batch_size)
        return math.ceil(batches / accumulation)

    def _loader(self, examples: list[Tokens], shuffle: bool) -> DataLoader[Tokens]:
        world = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        # Devices need equal numbers of batches; what fills up has no label, so that no pair counts twice.
        blank = {"input_ids": examples[0]["input_ids"], "labels": [IGNORED] * len(examples[0]["labels"])}
        examples = examples + [blank] * (-len(examples) % world)
        sampler: DistributedSampler[Tokens] = DistributedSampler(
            examples,  # type: ignore[arg-type]
            num_replicas=world,
            rank=rank,
            shuffle=shuffle,
            seed=self.seed,
        )
        return ResumableLoader(examples, sampler, self.batch_size, self.collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Tokens]:
        """Training batches; Lightning tells the sampler the epoch."""
        return self._loader(self.training, shuffle=True)

    def val_dataloader(self) -> DataLoader[Tokens] | list[Any]:
        """Validation batches; none if there are no validation pairs."""
        return self._loader(self.validation, shuffle=False) if self.validation else []
