"""The training set as the victim sees it: the clean pairs with an attack's poisons in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Attack, DatasetBundle, Edit, Images, PoisonPlan, Probe, Vocabulary
from bench.data.captions import PoisonedCaptions
from bench.data.mentions import MentionIndex
from bench.data.trusted import TrustedPairs


class PoisonedPairs:
    """Clean training pairs, some replaced, and the added ones, shuffled by `rng`: no position tells what is poisoned.

    Without `rng` the clean pairs come first, in their order. Batches are all that a defense is given; `poisoned` (bool, one a
    pair) is for telemetry alone, and `digest`, of what the attack chose, for seeds that cannot be guessed. Indexing is
    numpy's: a second pool of OpenMP threads, woken from a loading thread, would slow the training threads down.
    """

    def __init__(
        self,
        bundle: DatasetBundle,
        attack: Attack | None = None,
        plan: PoisonPlan | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        self._clean = bundle.train
        poisons = plan.poisons if plan else ()
        added = [poison for poison in poisons if poison.split == "holdout"]
        replaced = [poison for poison in poisons if poison.split == "train"]
        places = [poison.index for poison in replaced] + list(range(len(self._clean), len(self._clean) + len(added)))

        row = np.full(len(self._clean) + len(added), -1, dtype=np.int64)
        row[places] = np.arange(len(places))
        self._place = np.arange(len(row)) if rng is None else rng.permutation(len(row))
        self._row = row[self._place]
        self.poisoned = self._row >= 0
        self.digest = plan.chosen() if plan else None
        written = [poison.caption for poison in (*replaced, *added)]
        self.captions = PoisonedCaptions(self._clean.captions, written, self._place, self._row)
        poison_pixels = torch.cat(
            [
                edited(bundle.train.images, [poison.index for poison in replaced], [p.edit for p in replaced], attack, plan),
                edited(bundle.holdout.images, [poison.index for poison in added], [p.edit for p in added], attack, plan),
            ]
        )
        self._poison_pixels = poison_pixels.numpy()

    def __len__(self) -> int:
        return len(self.captions)

    def trusted(self, rng: np.random.Generator) -> TrustedPairs:
        """Random clean pairs, half of all pairs at most, as someone would have who checked them by hand."""
        order = rng.permutation(np.flatnonzero(self._row < 0))[: len(self) // 2]
        return TrustedPairs(order, self._place[order], self._clean.members)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """A class that each clean pair's image shows, int64; -1 where it is unknown or the pair is not clean."""
        members = [self._clean.members[self._place[index]] if self._row[index] < 0 else () for index in indices]
        return np.array([(*member, -1)[0] for member in members], dtype=np.int64)

    def named(self, vocabulary: Vocabulary) -> NDArray[np.int64]:
        """The first class that each pair's caption mentions, int64; -1 where it mentions none."""
        index = MentionIndex.of(vocabulary)
        return np.array([(*index.members(caption), -1)[0] for caption in self.captions], dtype=np.int64)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (n, 3, side, side)."""
        rows = self._row[indices]
        ours = rows >= 0
        if not ours.any():
            return self._clean.images.load(self._place[indices])
        images = np.empty((len(indices), *self._poison_pixels.shape[1:]), dtype=np.uint8)
        images[~ours] = self._clean.images.load(self._place[indices[~ours]]).numpy()
        images[ours] = self._poison_pixels[rows[ours]]
        return torch.from_numpy(images)


class ProbeImages:
    """The edited images of an attack's probes, in their order."""

    def __init__(self, bundle: DatasetBundle, attack: Attack, plan: PoisonPlan, probes: Sequence[Probe]) -> None:
        sources = {"holdout": bundle.holdout.images, "test": bundle.test.images}
        side = bundle.image_size
        self._pixels = torch.empty(len(probes), 3, side, side, dtype=torch.uint8)
        for split, images in sources.items():
            rows = [row for row, probe in enumerate(probes) if probe.split == split]
            chosen = [probes[row] for row in rows]
            self._pixels[rows] = edited(images, [p.index for p in chosen], [p.edit for p in chosen], attack, plan)

    def __len__(self) -> int:
        return len(self._pixels)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return self._pixels[torch.from_numpy(np.asarray(indices))]


def edited(
    images: Images, indices: Sequence[int], edits: Sequence[Edit | None], attack: Attack | None, plan: PoisonPlan | None
) -> torch.Tensor:
    """The images at `indices` with the attack's pixel function applied where an edit is given: uint8 (n, 3, side, side)."""
    pixels = images.load(np.asarray(indices, dtype=np.int64)).clone()
    rows = [row for row, edit in enumerate(edits) if edit is not None]
    if rows:
        assert attack is not None
        assert plan is not None
        pixels[rows] = attack.apply(pixels[rows], [edit for edit in edits if edit is not None], plan)
    return pixels
