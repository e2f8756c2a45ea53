"""Batches of a phase, with the views of images and captions that the phase requests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Batch, Phase
from bench.config import RunSpec, TrainSpec
from bench.data.augment import pin, random_crop, simclr, to_device, to_float
from bench.data.captions import CaptionTokens
from bench.data.poisoned import PoisonedPairs
from bench.models.encoder import ClipEncoder
from bench.training.ranks import Ranks

StepIndex = tuple[int, int, int]
"""(epoch, phase, step), which seeds every random draw of a batch."""


class Views:
    """Makes batches. Each rank makes its rows, with the same random draws as in the whole batch."""

    def __init__(
        self, spec: RunSpec, train: TrainSpec, pairs: PoisonedPairs, captions: CaptionTokens, encoder: ClipEncoder, ranks: Ranks
    ) -> None:
        self._order = keys.order_parts(spec, pairs.digest)
        self._train = train
        self._pairs = pairs
        self._captions = captions
        self._device = encoder.device
        self._cut = encoder.cut
        self._ranks = ranks

    def load(self, phase: Phase, pairs: NDArray[np.int64], index: StepIndex) -> Batch:
        """Stored pixels and the caption views of a batch, on the host, for `draw`; thread-safe."""
        rows = self._ranks.rows(len(pairs))
        rng = keys.generator(*self._order, "eda", *index)
        texts = tuple(
            self._captions.eda(pairs, self._train.eda_alpha, rng, rows) if view == "eda" else self._captions.plain(pairs[rows])
            for view in phase.text_views
        )
        return Batch(
            indices=pin(torch.from_numpy(pairs), self._device),
            images=(pin(self._pairs.load(pairs[rows]), self._device),),
            texts=tuple(pin(self._cut(tokens), self._device) for tokens in texts),
        )

    def draw(self, phase: Phase, loaded: Batch, index: StepIndex) -> Batch:
        """The batch on the device, with its image views."""
        generator = torch.Generator().manual_seed(keys.seed_of(*self._order, "augment", *index))
        part = len(loaded.indices), self._ranks.rows(len(loaded.indices))
        images = to_float(to_device(loaded.images[0], self._device))
        make = {
            "plain": lambda: images,
            "light": lambda: random_crop(images, self._train.crop, generator, part=part),
            "strong": lambda: simclr(images, self._train.strong_crop, self._train.strong_colour, generator, part),
        }
        return Batch(
            indices=to_device(loaded.indices, self._device),
            images=tuple(make[view]() for view in phase.image_views),
            texts=tuple(to_device(tokens, self._device) for tokens in loaded.texts),
        )
