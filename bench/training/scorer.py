"""Embeddings of training pairs, for defenses to score them between epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


Classes = Callable[[ClipEncoder], torch.Tensor]


class PairScorer:
    """Embeds unaugmented training pairs in evaluation mode, without gradient.

    Each rank embeds its rows. Raises KeyboardInterrupt once `stop()` is true. `classes` embeds the prompts of the data set's
    classes with an encoder. `stages` times the encoder as "scoring_forward".
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        pairs: PoisonedPairs,
        captions: CaptionTokens,
        stop: Callable[[], bool] = lambda: False,
        ranks: Ranks | None = None,
        classes: Classes | None = None,
        stages: Stages | None = None,
    ) -> None:
        self._encoder = encoder
        self._pairs = pairs
        self._captions = captions
        self._stop = stop
        self._ranks = ranks or Ranks()
        self._classes = classes
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

    def images(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Images: float32 (n, 3, side, side) in [0, 1], on the encoder's device."""
        self._interrupt()
        return to_float(self._pairs.load(np.asarray(indices, dtype=np.int64)).to(self._encoder.device))

    def classes(self) -> torch.Tensor:
        """Zero-shot embeddings of the data set's classes: float32 (classes, d), on the encoder's device."""
        if self._classes is None:
            raise RuntimeError("this scorer has no prompts of classes")
        with self.frozen() as encoder:
            return self._classes(encoder).to(encoder.device)

    @contextmanager
    def frozen(self) -> Iterator[ClipEncoder]:
        """The encoder in evaluation mode and float32, with parameters that have no gradient."""
        trained = [parameter for parameter in self._encoder.parameters() if parameter.requires_grad]
        training = self._encoder.training
        encoder = ClipEncoder(self._encoder.model, "fp32", self._encoder.device).eval().requires_grad_(False)
        try:
            yield encoder
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            self._encoder.train(training)

    def _embedded(self, rows: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Image and text embeddings of this rank's rows, batch by batch, with the size of the batch."""
        rows = np.asarray(rows, dtype=np.int64)  # a subclass of the defense's could record how it is indexed
        self._encoder.eval()
        device = self._encoder.device
        size = _BATCH * self._ranks.count
        for start in range(0, len(rows), size):
            self._interrupt()
            batch = rows[start : start + size]
            chosen = batch[self._ranks.rows(len(batch))]
            images = to_float(self._pairs.load(chosen).to(device))
            tokens = self._encoder.cut(self._captions.plain(chosen)).to(device)
            with self._stages("scoring_forward"):
                embedded = self._encoder.encode_image(images), self._encoder.encode_text(tokens)
            yield *embedded, len(batch)
        self._encoder.train()

    def _interrupt(self) -> None:
        if self._ranks.any(self._stop()):
            raise KeyboardInterrupt
