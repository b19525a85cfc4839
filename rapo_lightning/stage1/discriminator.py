"""The discriminator: which of the branches, or the original, will give the better video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.resources import find
from ..errors import UserError
from ..prompting.text import content_words, words

BRANCH_COLUMNS = {"refactored": "refactored", "instructed": "instructed", "original": "source_prompt"}
"""Where the text of each branch stands in a row of stage 1."""
BRANCHES = tuple(BRANCH_COLUMNS)
"""In the order of preference where scores are equal, which is also that without a discriminator."""
CONFIG, WEIGHTS = "discriminator.yaml", "discriminator.safetensors"


@dataclass(frozen=True)
class Shape:
    """What a discriminator was made for.

    Attributes:
        embedder: Name of the embedding model.
        dimensions: Length of its vectors.
        hidden: Width of the hidden layer (ours).
        error: Root mean square error of its predictions on prompts it was not trained on; a lead within it is none.
    """

    embedder: str
    dimensions: int
    hidden: int = 32
    error: float = 0.0


def choose_branch(scores: Mapping[str, float], margin: float) -> str:
    """The branch to take: a later one displaces an earlier one by a lead above `margin` only.

    Args:
        scores: Score of each branch that is there, in the order of preference.
        margin: A lead that is none, such as the error of predicted scores.
    """
    chosen = ""
    for branch, score in scores.items():
        if not chosen or score > scores[chosen] + margin:
            chosen = branch
    return chosen


def plain_features(request: str, text: str, branch: str) -> list[float]:
    """What can be said of a candidate without an embedding: its branch, lengths, and the share of the request's words."""
    asked, said = content_words(request), set(content_words(text))
    kept = sum(word in said for word in asked) / max(1, len(asked))
    lengths = [np.log1p(len(words(request))) / 5, np.log1p(len(words(text))) / 5]
    return [*(float(branch == name) for name in BRANCHES), kept, *lengths]


def features(
    requests: NDArray[np.float32], texts: NDArray[np.float32], plain: Sequence[Sequence[float]]
) -> NDArray[np.float32]:
    """Inputs of the discriminator, `(candidates, 2 * dimensions + 1 + plain features)`.

    Args:
        requests: Unit vectors of the requests, `(candidates, dimensions)`.
        texts: Unit vectors of the candidates, alike.
        plain: `plain_features` of each.
    """
    product = requests * texts
    # Products of unit vectors are of the size 1/dimensions; scaled, they are of the size of the other inputs.
    scale = requests.shape[1] ** 0.5
    cosine = product.sum(axis=1, keepdims=True)
    return np.concatenate([product * scale, texts * scale / 4, cosine, np.asarray(plain)], axis=1).astype(np.float32)


class Discriminator(lightning.LightningModule):
    """A small network that predicts the score of a candidate's video, trained by squared error."""

    def __init__(self, shape: Shape, lr: float = 2e-3) -> None:
        """Starts with random weights.

        Args:
            shape: What it is for.
            lr: Learning rate of AdamW (ours).
        """
        super().__init__()
        self.shape, self.lr = shape, lr
        inputs = 2 * shape.dimensions + 1 + len(plain_features("", "", ""))
        self.net = nn.Sequential(
            # Dropout and weight decay are ours: there are a few hundred prompts to learn from.
            nn.Dropout(0.2),
            nn.Linear(inputs, shape.hidden),
            nn.GELU(),
            nn.Linear(shape.hidden, 1),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Predicted scores, `(candidates,)`."""
        scores: Tensor = self.net(inputs).squeeze(-1)
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Squared error of the scores."""
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss, batch_size=len(batch[1]))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.05)

    @torch.inference_mode()
    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted scores as numbers; always on the CPU, where they do not depend on the device."""
        self.eval()
        return np.asarray(self.cpu()(torch.from_numpy(inputs)).numpy(), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Writes `discriminator.yaml` and `discriminator.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous().cpu() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(yaml.safe_dump(asdict(self.shape), sort_keys=False), encoding="utf-8")


def load_discriminator(folder: str, embedder: str) -> Discriminator:
    """Opens a discriminator.

    Args:
        folder: Its folder.
        embedder: Name of the recipe's embedder.

    Raises:
        UserError: If the folder is none, a file in it is damaged, or it was trained on another embedder's vectors.
    """
    path = find(folder)
    if path is None or not (path / CONFIG).is_file() or not (path / WEIGHTS).is_file():
        raise UserError(
            f"`stage1.discriminator` must name a folder with {CONFIG} and {WEIGHTS}. Got {folder!r}; train one with "
            "`rapo-lightning discriminator`, or leave it empty."
        )
    try:
        shape = Shape(**yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")))
        model = Discriminator(shape)
        model.load_state_dict(load_file(path / WEIGHTS))
    except (TypeError, ValueError, RuntimeError, yaml.YAMLError, SafetensorError) as error:
        raise UserError(
            f"The discriminator in {path} cannot be read. Got {' '.join(str(error).split())[:300]!r}; copy or train it anew."
        ) from error
    if shape.embedder != embedder:
        raise UserError(
            f"The discriminator in {path} was trained on vectors of {shape.embedder!r}. Got the embedder {embedder!r}; "
            "use that embedder or train it anew."
        )
    return model
