"""Embeddings of training pairs for defenses that look at them between epochs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.augment import to_float
from bench.data.poisoned import PoisonedPairs
from bench.models.encoder import ClipEncoder

_BATCH = 512


class PairScorer:
    """Embeds unaugmented training pairs in evaluation mode, without gradient."""

    def __init__(self, encoder: ClipEncoder, pairs: PoisonedPairs, tokens: torch.Tensor) -> None:
        self._encoder = encoder
        self._pairs = pairs
        self._tokens = tokens

    @torch.no_grad()
    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Cosine similarity of image and caption: float32 (n,)."""
        rows = np.arange(len(self._pairs)) if indices is None else indices
        self._encoder.eval()
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            images = self._encoder.encode_image(to_float(self._pairs.load(chosen).to(self._encoder.device)))
            texts = self._encoder.encode_text(self._tokens[torch.from_numpy(chosen)].to(self._encoder.device))
            scores[start : start + _BATCH] = (images * texts).sum(dim=1).cpu().numpy()
        self._encoder.train()
        return scores
