"""Rows of the judge's training: one video, what it shows, and several requests with verdicts that share it.

A row is a tree: every request follows the same description, and none sees another. So a video is read once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from ...checkpoints.vision_language import SPARE_TOKENS
from ...prompting.judging import LOOK, second_turn
from ..captions import caption
from ..degrade import degrade_caption
from ..describing import MISSING, comparison, description
from ..oracle import compare
from ..requests import asked
from ..scene import Scene, sample_scene
from ..user_prompts import user_prompt
from .judge_clips import Clip, MadeClips, broken, changed, rendered

VIDEO_TOKENS, GRID = 128, (8, 4, 4)
"""Tokens of a clip, and their grid of time, height and width: 16 of the 17 frames, in pairs."""
ROW_TOKENS = 512
PADDING = -1
"""Branch of the padding; 0 is what all requests share."""
LEXICON_SHARE = 0.4
"""Share of requests in the words of the lab's training users; the rest are the thesaurus's."""
MADE_SHARE, BROKEN_SHARE = 0.35, 0.05
LIST_WEIGHT, SCORE_WEIGHT = 2, 4
"""How much more the list of problems and the score weigh in the loss than other words: they are few and decide."""


@dataclass(frozen=True)
class Row:
    """Tokens of one video's conversations.

    Attributes:
        ids: Token ids, `(ROW_TOKENS,)`.
        positions: Places in the text, as if each request were the only one, `(ROW_TOKENS,)`; of video tokens too.
        branches: Number of the request from 1, 0 for what they share, `PADDING` behind the last.
        weights: Weight of each token in the loss, 0 for what the judge does not say.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    branches: NDArray[np.int64]
    weights: NDArray[np.int64]


def draw_request(scene: Scene, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A request for a scene in training words, and what it names."""
    while True:
        if rng.random() < LEXICON_SHARE:
            text = user_prompt(scene, rng)
            wanted = asked(text)
        else:
            made = degrade_caption(caption(scene, rng), scene, rng)
            text, wanted = made.request, made.named
        if wanted:
            return text, wanted


def draw_score(score: float, rng: np.random.Generator) -> int:
    """A score from 1 to 5 whose mean over draws is `1 + 4 * score`: the judge's own mean then has no steps."""
    return 1 + int(np.floor(4 * score + rng.random()))


class RowMaker:
    """Writes and tokenizes conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes the tokenizer of `checkpoints.vision_language.build_tokenizer`."""
        self.tokenizer = tokenizer
        begin, end, video = (SPARE_TOKENS[f"{name}_token"] for name in ("vision_start", "vision_end", "video"))
        head = f"<|im_start|>user\n{begin}{video * VIDEO_TOKENS}{end}{LOOK}<|im_end|>\n<|im_start|>assistant\n"
        self.head = self._encode([head])[0]
        self.begin = self.head.index(tokenizer.convert_tokens_to_ids(video))
        """Place of the first video token."""

    def _encode(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found

    def texts(self, clip: Clip, requests: list[tuple[str, dict[str, str]]], rng: np.random.Generator) -> list[str]:
        """The pieces of a row: the description, then for each request the question, the start and the end of the answer."""
        texts = [description(clip.reading.attributes, clip.reading.faults) + "<|im_end|>"]
        for text, wanted in requests:
            right, faults, score = compare(clip.reading, wanted)
            said, mark, rest = comparison(wanted, right, faults).partition(f" {MISSING}")
            ask = f"\n<|im_start|>user\n{second_turn(text)}<|im_end|>\n<|im_start|>assistant\n"
            texts += [ask, said, f"{mark}{rest}{draw_score(score, rng)}<|im_end|>"]
        return texts

    def row(self, clip: Clip, requests: list[tuple[str, dict[str, str]]], rng: np.random.Generator) -> Row:
        """A row with as many of the requests as it has room for."""
        described, *pieces = self._encode(self.texts(clip, requests, rng))
        ids, weights = self.head + described, [0] * len(self.head) + [1] * len(described)
        shared = len(ids)
        branches, positions = [0] * shared, list(range(shared))
        for number in range(len(requests)):
            ask, said, rest = pieces[3 * number : 3 * number + 3]
            branch = [*ask, *said, *rest]
            if len(ids) + len(branch) > ROW_TOKENS:
                break
            ids += branch
            # The last two tokens are the score and the end of the turn.
            weights += [0] * len(ask) + [1] * len(said) + [LIST_WEIGHT] * (len(rest) - 2) + [SCORE_WEIGHT, 1]
            branches += [number + 1] * len(branch)
            positions += range(shared, shared + len(branch))
        pad = ROW_TOKENS - len(ids)
        padding = int(self.tokenizer.pad_token_id)  # type: ignore[arg-type]
        filled = (ids + [padding] * pad, positions + [0] * pad, branches + [PADDING] * pad, weights + [0] * pad)
        return Row(*(np.array(values, np.int64) for values in filled))


class JudgeRows(IterableDataset[dict[str, Tensor]]):
    """Endless batches of rows, drawn anew by worker processes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, made: MadeClips, batch: int, seed: int) -> None:
        """Takes what rows are made of.

        Args:
            tokenizer: The judge's.
            made: lab-wan's own videos.
            batch: Rows of a batch.
            seed: Seed of the draws; a training that goes on takes another.
        """
        self.maker, self.made, self.batch, self.seed = RowMaker(tokenizer), made, batch, seed

    def _clip(self, rng: np.random.Generator) -> Clip:
        draw = rng.random()
        if draw < MADE_SHARE:
            return self.made.clip(int(rng.integers(len(self.made))))
        scene = sample_scene(rng, "train")
        damaged = broken(scene, rng) if draw < MADE_SHARE + BROKEN_SHARE else None
        return damaged or rendered(scene, rng)

    def _requests(self, scene: Scene, rng: np.random.Generator) -> list[tuple[str, dict[str, str]]]:
        """For the scene itself, for it with changes, and now and then for another."""
        scenes = [
            scene,
            changed(scene, rng),
            scene,
            changed(scene, rng),
            sample_scene(rng, "train"),
            changed(scene, rng),
        ]
        return [draw_request(scenes[index], rng) for index in rng.permutation(len(scenes))]

    def draw(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """One batch."""
        clips = [self._clip(rng) for _ in range(self.batch)]
        rows = [self.maker.row(clip, self._requests(clip.scene, rng), rng) for clip in clips]
        found: dict[str, Any] = {
            name: np.stack([getattr(row, name) for row in rows]) for name in ("ids", "positions", "branches", "weights")
        }
        found["frames"] = np.stack([clip.frames[: 2 * GRID[0]] for clip in clips])
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches without end, other ones in each worker."""
        info = get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        torch.set_num_threads(1)
        while True:
            yield self.draw(rng)
