"""Test images, and whether the splits of a data set share images, by their pixels."""

from __future__ import annotations

import hashlib

import numpy as np

from bench.api.data import DatasetBundle, Images


def digests(images: Images) -> list[str]:
    return [hashlib.sha256(images.load(np.array([row])).numpy().tobytes()).hexdigest() for row in range(len(images))]


def leaks(bundle: DatasetBundle) -> int:
    """The number of images that are in more than one split."""
    parts = [set(digests(part.images)) for part in (bundle.train, bundle.holdout, bundle.test)]
    return sum(map(len, parts)) - len(set.union(*parts))


def smooth(height: int, width: int) -> np.ndarray:
    """An image with four different corners: uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / max(1, width - 1), y * 255 / max(1, height - 1), 60 + 0 * x], axis=-1).astype(np.uint8)
