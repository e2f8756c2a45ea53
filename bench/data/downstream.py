"""The downstream sets of Yang et al. 2024, Table 11, as labelled tasks. Nothing is downloaded.

A set lies in a folder of its name, which is the `root` of its class in torchvision; ImageNet-1K in train/ and val/ with a
folder for each WordNet id. Training splits hold the validation images where a set has any (DTD, Aircraft, Flowers, Pet), as
the sizes of the table say.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.api.data import Images, Task, Vocabulary
from bench.data.decoding import PIXELS, square_pixels
from bench.data.files import MEMORY_BUDGET, ImageFiles
from bench.data.labelled import READERS, Source, Split
from bench.data.vocabularies import imagenet
from bench.errors import UserError

FORMAT = f"downstream 1, {PIXELS}"
NAMES = tuple(READERS)
NOT_THERE = "no folder of its name in --downstream-root"
SAME_NAME = "the data set has a task of this name"

_MEND = "restore it, or move the set's folder away to leave the set out"


@dataclass(frozen=True, eq=False)
class Downstream:
    """The sets of a folder that are there, and why the others are left out.

    fingerprints: of each task; changes whenever a label, a class name, a prompt or the size of an image file does, and for
    CIFAR any pixel. skipped: why a set is not a task. partial: what a task lacks of the published set. kept: those of the
    tasks' images that stay in memory once they are loaded.
    """

    tasks: tuple[Task, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[Images, ...] = ()

    def record(self) -> dict[str, Any]:
        """What an evaluation's record says of it."""
        return {"sets": dict(self.fingerprints), "skipped": dict(self.skipped), "partial": dict(self.partial)}


class SmallImages:
    """Images held as pixels, uint8 (n, height, width, 3), resized when they are loaded."""

    def __init__(self, pixels: NDArray[np.uint8], side: int) -> None:
        self._pixels = pixels
        self._side = side

    def __len__(self) -> int:
        return len(self._pixels)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (n, 3, side, side) of the given positions; bicubic where that is another size."""
        images = np.empty((len(indices), 3, self._side, self._side), dtype=np.uint8)
        for row, index in enumerate(indices):
            images[row] = square_pixels(Image.fromarray(self._pixels[index]), self._side)
        return torch.from_numpy(images)


def open_sets(root: Path, image_size: int, taken: Sequence[str] = (), budget: int = MEMORY_BUDGET) -> Downstream:
    """Open every set that has a folder ROOT/NAME, without decoding an image, for square images of `image_size` pixels.

    `taken` are names of tasks that there are already. Decoded images stay in memory as far as `budget` bytes reach for all
    sets together. Raises UserError when there is no set, and naming the file or folder when one is damaged.
    """
    if not root.is_dir():
        raise UserError(f"--downstream-root {root} is no folder: give the one that holds {NAMES[0]}/ and the like")
    skipped = {name: SAME_NAME if name in taken else NOT_THERE for name in NAMES if name in taken or not (root / name).is_dir()}
    present = [name for name in NAMES if name not in skipped]
    if not present:
        raise UserError(f"--downstream-root {root} holds no set: put one in a folder named {', '.join(NAMES)}")
    opened = [(name, _vocabulary(name, source), source) for name in present for source in [_source(name, root / name)]]
    kept: list[Images] = []
    tasks = []
    for name, vocabulary, source in opened:
        images = []
        for split in (source.train, source.test):
            size = 3 * image_size**2 * len(split.labels)
            images.append(_images(split, image_size, size <= budget))
            if split.pixels is None and size <= budget:
                kept.append(images[-1])
                budget -= size
        labels = source.train.labels, source.test.labels
        per_class = bool(facts()[name].get("mean_per_class"))
        tasks.append(Task(name, vocabulary, images[0], labels[0], images[1], labels[1], per_class))
    return Downstream(
        tasks=tuple(tasks),
        fingerprints={name: _fingerprint(name, root / name, vocabulary, source) for name, vocabulary, source in opened},
        skipped=skipped,
        partial={name: lack for name, _, source in opened if (lack := _lack(name, source))},
        kept=tuple(kept),
    )


@cache
def facts() -> dict[str, dict[str, Any]]:
    """What is published of each set: classes, sizes of the splits, prompts."""
    return tomllib.loads((files("bench") / "data" / "downstream.toml").read_text(encoding="utf-8"))


def _source(name: str, folder: Path) -> Source:
    """What a set's files say. Raises UserError for damage that shows without decoding images."""
    try:
        source = READERS[name](folder)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # torchvision, JSON, scipy and text files each fail in their own way
        problem = " ".join(str(error).partition(" You can")[0].split()).rstrip(".") or type(error).__name__
        raise UserError(f"{folder} cannot be opened as {name} in torchvision's layout ({problem}): {_MEND}") from error
    count = facts()[name]["classes"]
    if len(source.names) != count:
        raise UserError(f"{folder} has {len(source.names)} classes where {name} has {count}: {_MEND}")
    for part, split in (("training", source.train), ("test", source.test)):
        absent = sorted(set(range(count)) - set(split.labels.tolist()))
        if absent:
            raise UserError(
                f"{folder} has no {part} image of {len(absent)} classes, such as {source.names[absent[0]]}: {_MEND}"
            )
    return source


def _vocabulary(name: str, source: Source) -> Vocabulary:
    if name == "imagenet":
        return imagenet()
    rename = facts()[name].get("rename", {})
    names = (rename.get(raw, raw.replace("_", " ")) for raw in source.names)
    return Vocabulary(tuple(names), tuple(facts()[name]["templates"]))


def _images(split: Split, side: int, keep: bool) -> Images:
    if split.pixels is not None:
        return SmallImages(split.pixels, side)
    return ImageFiles(split.paths, side, MEMORY_BUDGET if keep else 0, _MEND)


def _fingerprint(name: str, folder: Path, vocabulary: Vocabulary, source: Source) -> str:
    """Raises UserError when an image is missing or empty."""
    said = {"format": FORMAT, "name": name, "names": vocabulary.names, "templates": vocabulary.templates}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for split in (source.train, source.test):
        digest.update(split.labels.astype("<i8").tobytes())
        if split.pixels is not None:
            digest.update(split.pixels.tobytes())
        else:
            listed = [(os.path.relpath(path, folder), _bytes_of(path)) for path in split.paths]
            digest.update(json.dumps(listed).encode())
    return digest.hexdigest()[:16]


def _bytes_of(path: str) -> int:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise UserError(f"image {path} cannot be read ({error.strerror}): {_MEND}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise UserError(f"image {path} is no file: {_MEND}")
    if not facts.st_size:
        raise UserError(f"image {path} is empty: {_MEND}")
    return facts.st_size


def _lack(name: str, source: Source) -> str:
    """How the sizes of the splits differ from the published ones, or nothing."""
    found, published = (len(source.train.labels), len(source.test.labels)), (facts()[name]["train"], facts()[name]["test"])
    if found == published:
        return ""
    there, right = (f"{train:,} training and {test:,} test images" for train, test in (found, published))
    return f"{there} where the whole set has {right}"
