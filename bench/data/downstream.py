"""The downstream data sets of Yang et al. 2024, Table 11, as labelled tasks. Nothing is downloaded.

Each set is in a folder of its name, which is the `root` of its class in torchvision; ImageNet-1K has train/ and val/ with a
folder for each WordNet id. Training splits include the validation images of sets that have them (DTD, Aircraft, Flowers, Pets),
in agreement with the sizes in the table.
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
NOT_FOUND = "no folder of this name in --downstream-root"
SAME_NAME = "the data set has a task of the same name"

_REMEDY = "restore it, or move the set's folder elsewhere to do without the set"


@dataclass(frozen=True, eq=False)
class Downstream:
    """The downstream sets found in a folder.

    Attributes
    ----------
    tasks : tuple of Task
        The sets that were found.
    fingerprints : mapping of str to str
        By task; changes with any label, class name, prompt or size of an image file, and for CIFAR with any pixel.
    skipped : mapping of str to str
        By set that is not a task, the reason.
    partial : mapping of str to str
        By task whose sizes are not the published ones, the difference.
    kept : tuple of Images
        The images that stay in memory once loaded.
    """

    tasks: tuple[Task, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[Images, ...] = ()

    def record(self) -> dict[str, Any]:
        """The part of an evaluation record about the downstream sets."""
        return {"sets": dict(self.fingerprints), "skipped": dict(self.skipped), "partial": dict(self.partial)}


class SmallImages:
    """Images from pixels, uint8 (n, height, width, 3), resized to `side` when loaded."""

    def __init__(self, pixels: NDArray[np.uint8], side: int) -> None:
        self._pixels = pixels
        self._side = side

    def __len__(self) -> int:
        return len(self._pixels)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images at `indices`: uint8 (n, 3, side, side)."""
        images = np.empty((len(indices), 3, self._side, self._side), dtype=np.uint8)
        for row, index in enumerate(indices):
            images[row] = square_pixels(Image.fromarray(self._pixels[index]), self._side)
        return torch.from_numpy(images)


def open_sets(root: Path, image_size: int, taken: Sequence[str] = (), budget: int = MEMORY_BUDGET) -> Downstream:
    """Open every set that has a folder in `root`, without decoding images.

    Parameters
    ----------
    root : Path
        The folder that contains the folders of the sets.
    image_size : int
        Side of the square images in pixels.
    taken : sequence of str
        Names of tasks that exist already; sets of these names are skipped.
    budget : int
        Bytes of decoded images to keep in memory, for all sets together.

    Raises
    ------
    UserError
        If there is no set, or one is damaged; names the file or folder.
    """
    if not root.is_dir():
        raise UserError(f"--downstream-root {root} is not a folder: give the one that contains {NAMES[0]}/ and the like")
    skipped = {name: SAME_NAME if name in taken else NOT_FOUND for name in NAMES if name in taken or not (root / name).is_dir()}
    present = [name for name in NAMES if name not in skipped]
    if not present:
        raise UserError(f"--downstream-root {root} contains no set: put one in a folder named {', '.join(NAMES)}")
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
    """The published facts about each set: number of classes, sizes of the splits, prompts."""
    return tomllib.loads((files("bench") / "data" / "downstream.toml").read_text(encoding="utf-8"))


def _source(name: str, folder: Path) -> Source:
    """Read the labels and paths of a set. Raises UserError for damage that is visible without decoding images."""
    try:
        source = READERS[name](folder)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # torchvision, JSON, scipy and text files all raise their own errors
        problem = " ".join(str(error).partition(" You can")[0].split()).rstrip(".") or type(error).__name__
        raise UserError(f"{folder} cannot be opened as {name} in torchvision's layout ({problem}): {_REMEDY}") from error
    count = facts()[name]["classes"]
    if len(source.names) != count:
        raise UserError(f"{folder} has {len(source.names)} classes where {name} has {count}: {_REMEDY}")
    for part, split in (("training", source.train), ("test", source.test)):
        absent = sorted(set(range(count)) - set(split.labels.tolist()))
        if absent:
            raise UserError(
                f"{folder} has no {part} image of {len(absent)} classes, such as {source.names[absent[0]]}: {_REMEDY}"
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
    return ImageFiles(split.paths, side, MEMORY_BUDGET if keep else 0, _REMEDY)


def _fingerprint(name: str, folder: Path, vocabulary: Vocabulary, source: Source) -> str:
    """Raises UserError if an image is missing or empty."""
    description = {"format": FORMAT, "name": name, "names": vocabulary.names, "templates": vocabulary.templates}
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
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
        raise UserError(f"image {path} cannot be read ({error.strerror}): {_REMEDY}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise UserError(f"image {path} is not a regular file: {_REMEDY}")
    if not facts.st_size:
        raise UserError(f"image {path} is empty: {_REMEDY}")
    return facts.st_size


def _lack(name: str, source: Source) -> str:
    """How the sizes of the splits differ from the published ones; empty if they do not."""
    found, published = (len(source.train.labels), len(source.test.labels)), (facts()[name]["train"], facts()[name]["test"])
    if found == published:
        return ""
    present, full = (f"{train:,} training and {test:,} test images" for train, test in (found, published))
    return f"{present} where the full set has {full}"
