"""Embeddings of training pairs, for defenses to score them between epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.augment import to_float
from bench.data.captions import CaptionTokens
from bench.data.poisoned import PoisonedPairs
from bench.models.encoder import ClipEncoder
from bench.training.ranks import Ranks
from bench.training.stages import Stages

_BATCH = 256


class PairScorer:
    """Embeds unaugmented training pairs in evaluation mode, without gradient.

    Each rank embeds its rows. Raises KeyboardInterrupt once `stop()` is true. `stages` times the encoder as "scoring_forward".
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        pairs: PoisonedPairs,
        captions: CaptionTokens,
        stop: Callable[[], bool] = lambda: False,
        ranks: Ranks | None = None,
        stages: Stages | None = None,
    ) -> None:
        self._encoder = encoder
        self._pairs = pairs
        self._captions = captions
        self._stop = stop
        self._ranks = ranks or Ranks()
        self._stages = stages or Stages()

    @torch.no_grad()
    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Cosine similarity of image and caption: float32 (n,)."""
        rows = np.arange(len(self._pairs)) if indices is None else indices
        scores = [
            self._ranks.gather((images * texts).sum(dim=1), total).cpu().numpy()
            for images, texts, total in self._embedded(rows)
        ]
        return np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)

    @torch.no_grad()
    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and text embeddings: float32 (n, d) each, on the encoder's device."""
        found = [
            (self._ranks.gather(images, total), self._ranks.gather(texts, total))
            for images, texts, total in self._embedded(indices)
        ]
        images, texts = zip(*found, strict=True)
        return torch.cat(images), torch.cat(texts)

    def _embedded(self, rows: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Image and text embeddings of this rank's rows, batch by batch, with the size of the batch."""
        rows = np.asarray(rows, dtype=np.int64)  # a subclass of the defense's could record how it is indexed
        self._encoder.eval()
        device = self._encoder.device
        size = _BATCH * self._ranks.count
        for start in range(0, len(rows), size):
            if self._ranks.any(self._stop()):
                raise KeyboardInterrupt
            batch = rows[start : start + size]
            chosen = batch[self._ranks.rows(len(batch))]
            images, tokens = to_float(self._pairs.load(chosen).to(device)), self._captions.plain(chosen).to(device)
            with self._stages("scoring_forward"):
                embedded = self._encoder.encode_image(images), self._encoder.encode_text(tokens)
            yield *embedded, len(batch)
        self._encoder.train()
