"""Image-caption pairs as JPEG files for the benchmarks, in the formats of `bench poison`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from bench.api import Images
from bench.export.encoding import Encoding
from bench.export.formats import FORMATS

DATA: dict[str, tuple[str, tuple[str, ...]]] = {"csv": ("csv", ()), "webdataset": ("img2dataset", ("data.images=train",))}
"""By format: the data set that reads its folder, and its options."""
TRAIN_SHARE = 0.9
"""Of the pairs in a folder; the rest are the holdout and test of its data set."""
QUALITY = 90
_CHUNK = 256
_COARSE = 16


def write(folder: Path, format: str, images: Iterable[bytes], captions: Iterable[str], side: int) -> None:
    """Write pairs of JPEG files and captions, as many as there are of both, into a folder that is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = FORMATS[format](folder, "jpg", side)
    for image, caption in zip(images, captions, strict=False):
        writer.add(image, caption)
    writer.close()


def encoded(images: Images, count: int) -> Iterator[bytes]:
    """The first `count` images as JPEG files."""
    for start in range(0, count, _CHUNK):
        yield from Encoding(QUALITY).encode(images.load(np.arange(start, min(start + _CHUNK, count))))


def pictures(count: int, side: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Made-up JPEG files of smooth colours under a little noise, which take about as many bytes as photographs."""
    for start in range(0, count, _CHUNK):
        number = min(_CHUNK, count - start)
        coarse = torch.from_numpy(rng.uniform(0, 255, (number, 3, _COARSE, _COARSE)).astype(np.float32))
        smooth = F.interpolate(coarse, side, mode="bilinear")
        noise = torch.from_numpy(rng.normal(0, 8, (1, 3, side, side)).astype(np.float32))
        yield from Encoding(QUALITY).encode((smooth + noise).clamp(0, 255).to(torch.uint8))


def tiny(count: int) -> Iterator[bytes]:
    """JPEG files of 8 x 8 pixels that differ in what follows the picture, so that none repeats another."""
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 60)).save(content, "JPEG")
    return (content.getvalue() + number.to_bytes(8, "big") for number in range(count))
