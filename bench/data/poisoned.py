"""The training set of the victim: the clean pairs with an attack's poisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Attack, DatasetBundle, Edit, Images, PoisonPlan, Probe, Vocabulary
from bench.data.captions import PoisonedCaptions
from bench.data.mentions import MentionIndex
from bench.data.trusted import TrustedPairs

_BLOCK = 256


class PoisonedPairs:
    """The clean training pairs, some of them replaced by poisons, and the added poisons.

    Pairs are shuffled by `rng`, so that a pair's position does not reveal whether it is poisoned; without `rng` the clean pairs
    come first, in their order. A defense only sees batches of them. Indexing is done by NumPy: torch would start a second pool
    of OpenMP threads in the loading thread, which slows training down.

    Parameters
    ----------
    bundle : DatasetBundle
        The clean data.
    attack, plan : optional
        The attack and its plan; without them all pairs are clean.
    rng : numpy.random.Generator, optional
        Shuffles the pairs.

    Attributes
    ----------
    poisoned : bool (n,)
        Which pairs are poisoned; for telemetry only.
    digest : str or None
        Hash of the attack's choices, for seeds that a defense cannot guess.
    captions : sequence of n str
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
        positions = [poison.index for poison in replaced] + list(range(len(self._clean), len(self._clean) + len(added)))

        poison_of = np.full(len(self._clean) + len(added), -1, dtype=np.int64)
        poison_of[positions] = np.arange(len(positions))
        self._clean_of = np.arange(len(poison_of)) if rng is None else rng.permutation(len(poison_of))
        self._poison_of = poison_of[self._clean_of]
        self.poisoned = self._poison_of >= 0
        self.digest = plan.chosen() if plan else None
        adversarial = [poison.caption for poison in (*replaced, *added)]
        self.captions = PoisonedCaptions(self._clean.captions, adversarial, self._clean_of, self._poison_of)
        poison_pixels = torch.cat(
            [
                edited(bundle.train.images, [poison.index for poison in replaced], [p.edit for p in replaced], attack, plan),
                edited(bundle.holdout.images, [poison.index for poison in added], [p.edit for p in added], attack, plan),
            ]
        )
        self._poison_pixels = poison_pixels.numpy()
        self._on_device: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def trusted(self, rng: np.random.Generator) -> TrustedPairs:
        """Random clean pairs, at most half of all pairs, as if someone had checked them by hand."""
        order = rng.permutation(np.flatnonzero(self._poison_of < 0))[: len(self) // 2]
        return TrustedPairs(order, self._clean_of[order], self._clean.members)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """A class that each pair's image shows, int64 (n,); -1 if it is unknown or the pair is poisoned."""
        members = [self._clean.members[self._clean_of[index]] if self._poison_of[index] < 0 else () for index in indices]
        return np.array([(*member, -1)[0] for member in members], dtype=np.int64)

    def named(self, vocabulary: Vocabulary) -> NDArray[np.int64]:
        """The first class that each pair's caption mentions, int64 (pairs,); -1 if it mentions none."""
        index = MentionIndex.of(vocabulary)
        return np.array([(*index.members(caption), -1)[0] for caption in self.captions], dtype=np.int64)

    def copy_to(self, device: torch.device) -> None:
        """Copy all images to a device, from which `load` takes them from now on."""
        pixels = torch.empty(len(self), *self._poison_pixels.shape[1:], dtype=torch.uint8, device=device)
        for start in range(0, len(self), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(self)))
            pixels[start : start + len(rows)] = self.load(rows)
        self._on_device = pixels

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images of the pairs: uint8 (n, 3, side, side), on the CPU or the device that they were copied to."""
        if self._on_device is not None:
            return self._on_device[torch.from_numpy(indices).to(self._on_device.device)]
        poison = self._poison_of[indices]
        poisoned = poison >= 0
        if not poisoned.any():
            return self._clean.images.load(self._clean_of[indices])
        images = np.empty((len(indices), *self._poison_pixels.shape[1:]), dtype=np.uint8)
        images[~poisoned] = self._clean.images.load(self._clean_of[indices[~poisoned]]).numpy()
        images[poisoned] = self._poison_pixels[poison[poisoned]]
        return torch.from_numpy(images)


class ProbeImages:
    """The images of an attack's probes, edited, in the order of the probes."""

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
        """The images at `indices`: uint8 (n, 3, side, side)."""
        return self._pixels[torch.from_numpy(np.asarray(indices))]


def edited(
    images: Images, indices: Sequence[int], edits: Sequence[Edit | None], attack: Attack | None, plan: PoisonPlan | None
) -> torch.Tensor:
    """The images at `indices`, with the attack applied to those that have an edit: uint8 (n, 3, side, side)."""
    pixels = images.load(np.asarray(indices, dtype=np.int64)).clone()
    rows = [row for row, edit in enumerate(edits) if edit is not None]
    if rows:
        assert attack is not None
        assert plan is not None
        pixels[rows] = attack.apply(pixels[rows], [edit for edit in edits if edit is not None], plan)
    return pixels
