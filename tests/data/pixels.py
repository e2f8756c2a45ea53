"""Whether the parts of a data set share images, by what is decoded."""

from __future__ import annotations

import hashlib

import numpy as np

from bench.api.data import DatasetBundle, Images


def digests(images: Images) -> list[str]:
    return [hashlib.sha256(images.load(np.array([row])).numpy().tobytes()).hexdigest() for row in range(len(images))]


def leaks(bundle: DatasetBundle) -> int:
    """How many images of one part another has too."""
    parts = [set(digests(part.images)) for part in (bundle.train, bundle.holdout, bundle.test)]
    return sum(map(len, parts)) - len(set.union(*parts))
