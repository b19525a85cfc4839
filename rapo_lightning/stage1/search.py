"""The search for places on a GPU: the graph's hubs stay there as one matrix."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from relation_graph import Nodes, matrix_search

_QUERIES = 512
"""Prompts per product: 512 x 500,000 scores take 1 GB."""


class DeviceSearch:
    """A `relation_graph.retrieval.Search` on a device; on the CPU it is `matrix_search`."""

    def __init__(self, device: torch.device) -> None:
        """Remembers the device; the matrix is moved there on first use."""
        self.device = device
        self._nodes: Nodes | None = None
        self._matrix = torch.empty(0)

    def __call__(self, queries: NDArray[np.float32], nodes: Nodes, count: int) -> NDArray[np.int64]:
        """Numbers of the nearest nodes, `(prompts, count)`."""
        return (matrix_search if self.device.type == "cpu" else self.on_device)(queries, nodes, count)

    @torch.inference_mode()
    def on_device(self, queries: NDArray[np.float32], nodes: Nodes, count: int) -> NDArray[np.int64]:
        """As the call, by products on the device whatever it is."""
        if self._nodes is not nodes:
            matrix = torch.from_numpy(np.array(nodes.vectors)).to(self.device)
            self._matrix, self._nodes = torch.nn.functional.normalize(matrix, dim=1), nodes
        found = [
            (part @ self._matrix.T).topk(count, dim=1).indices.cpu().numpy()
            for part in torch.from_numpy(queries).to(self.device).split(_QUERIES)
        ]
        return np.concatenate(found).astype(np.int64)
