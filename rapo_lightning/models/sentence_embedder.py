"""A sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoints import loading, locate


class SentenceEmbedder:
    """Unit vectors of sentences."""

    def __init__(self, checkpoint: str = "all-minilm-l6-v2", batch_size: int = 64) -> None:
        """Remembers the checkpoint; weights are loaded on first use.

        Args:
            checkpoint: Name in the checkpoint manifest, folder, or hub id (default: the paper's embedder).
            batch_size: Sentences per forward pass.
        """
        self.name, self.batch_size = checkpoint, batch_size
        self._model: torch.nn.Module | None = None

    def load(self) -> None:
        """Loads the model, once.

        Raises:
            UserError: If the checkpoint is not known.
            RunError: If it cannot be loaded.
        """
        if self._model is None:
            path = locate(self.name)
            with loading("embedder", path):
                from sentence_transformers import SentenceTransformer

                self._model = SentenceTransformer(path, device="cpu", trust_remote_code=False)

    def to(self, device: torch.device) -> None:
        """Loads if needed and moves to `device`."""
        self.load()
        assert self._model is not None
        self._model.to(device)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, `(texts, dimensions)`."""
        self.load()
        vectors = self._model.encode(  # type: ignore[union-attr, operator]
            list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)
