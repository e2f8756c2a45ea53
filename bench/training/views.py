"""Batches of a phase: pixels and captions of pairs, and the views of them that the phase asks for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Batch, Phase
from bench.config import RunSpec, TrainSpec
from bench.data.augment import random_crop, simclr, to_float
from bench.data.captions import CaptionTokens
from bench.data.poisoned import PoisonedPairs
from bench.training.ranks import Ranks

Place = tuple[int, int, int]
"""Epoch, phase and step, from which every draw of a batch follows."""


class Views:
    """Makes batches. Of several processes each makes its rows, with the draws that they have in the whole batch."""

    def __init__(self, spec: RunSpec, train: TrainSpec, pairs: PoisonedPairs, captions: CaptionTokens, ranks: Ranks) -> None:
        self._order = keys.order_parts(spec)
        self._train = train
        self._pairs = pairs
        self._captions = captions
        self._ranks = ranks

    def load(self, phase: Phase, pairs: NDArray[np.int64], place: Place) -> Batch:
        """Pixels as stored and the views of the captions, for `draw`; apt for a background thread."""
        mine = self._ranks.rows(len(pairs))
        rng = keys.generator(*self._order, "eda", *place)
        texts = tuple(
            self._captions.eda(pairs, rng, mine) if view == "eda" else self._captions.plain(pairs[mine])
            for view in phase.text_views
        )
        return Batch(indices=torch.from_numpy(pairs), images=(self._pairs.load(pairs[mine]),), texts=texts)

    def draw(self, phase: Phase, loaded: Batch, place: Place, device: torch.device) -> Batch:
        """The batch on a device, with the views of its images."""
        generator = torch.Generator().manual_seed(keys.seed_of(*self._order, "augment", *place))
        part = len(loaded.indices), self._ranks.rows(len(loaded.indices))
        images = to_float(loaded.images[0].to(device, non_blocking=True))
        make = {
            "plain": lambda: images,
            "light": lambda: random_crop(images, self._train.crop, generator, part=part),
            "strong": lambda: simclr(images, self._train.strong_crop, self._train.strong_colour, generator, part),
        }
        return Batch(
            indices=loaded.indices.to(device),
            images=tuple(make[view]() for view in phase.image_views),
            texts=tuple(tokens.to(device, non_blocking=True) for tokens in loaded.texts),
        )
