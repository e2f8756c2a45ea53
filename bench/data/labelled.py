"""Readers of labelled image sets in their published form: torchvision's layouts, and class folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import cifar
from bench.data.samples import hidden
from bench.errors import UserError

IMAGENET_TRAIN = 50
"""Training images for each ImageNet class: 50,000 in total."""
CALTECH_TRAIN = 30
"""Training images for each class of Caltech-101; the rest are test images."""

_SUFFIXES = (".jpg", ".jpeg", ".png")
_REMEDY = "download it again, or move the set's folder elsewhere to do without the set"


@dataclass(frozen=True, eq=False)
class Split:
    """Labels, int64 (n,), and images: paths of n files, or pixels, uint8 (n, height, width, 3)."""

    labels: NDArray[np.int64]
    paths: Sequence[str] = ()
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled set: its class names as in the files, in label order, and its splits."""

    names: Sequence[str]
    train: Split
    test: Split


Reader = Callable[[Path], Source]
"""Reads the folder of a set, without decoding images. Raises UserError or any error of its library."""


def _cifar(kind: str) -> Reader:
    def read(folder: Path) -> Source:
        data = _torchvision(kind)
        _verify(folder / data.base_folder, cifar.published(data))
        train, test = (cifar.read(data, folder, part) for part in (True, False))
        return Source(train.classes, *(Split(part.targets, pixels=part.data) for part in (train, test)))

    return read


def _listed(kind: str, train: Sequence[str], test: str, images: str = "_image_files") -> Reader:
    """A reader of a torchvision data set that lists its files and labels; `train` and `test` name its splits."""

    def read(folder: Path) -> Source:
        data = _torchvision(kind)
        if kind == "Flowers102":
            _verify(folder / "flowers-102", [data._file_dict[part] for part in ("label", "setid")])
        parts = {name: data(folder, split=name) for name in (*train, test)}
        names = list(parts[test].classes)
        for name, part in parts.items():
            if list(part.classes) != names:
                raise UserError(f"{folder}: the lists of the splits {name} and {test} have different classes; {_REMEDY}")
        rows = {name: _rows(getattr(part, images, None), part) for name, part in parts.items()}
        return Source(names, _split(row for name in train for row in rows[name]), _split(rows[test]))

    return read


def _rows(images: Any, part: Any) -> list[tuple[str, int]]:
    return list(part._samples) if images is None else list(zip(map(str, images), part._labels, strict=True))


def _pets(folder: Path) -> Source:
    """Oxford-IIIT Pet, with class names capitalised as in its files: cats upper case, dogs lower case."""
    source = _listed("OxfordIIITPet", ("trainval",), "test", "_images")(folder)
    names = {
        label: Path(path).stem.rpartition("_")[0] for path, label in zip(source.test.paths, source.test.labels, strict=True)
    }
    return Source([names[label] for label in sorted(names)], source.train, source.test)


def _caltech(folder: Path) -> Source:
    """Caltech-101 with its background class: 30 random training images for each class, the same on every machine."""
    classes = _classes(folder / "caltech101" / "101_ObjectCategories")
    train = {name: _draw(name, images, CALTECH_TRAIN) for name, images in classes.items()}
    rest = {name: [image for image in images if image not in set(train[name])] for name, images in classes.items()}
    return Source(list(classes), _by_class(train), _by_class(rest))


def _imagenet(folder: Path) -> Source:
    """ImageNet-1K: 50 random training images for each class, the same on every machine; tested on the validation split."""
    from timm.data.imagenet_info import ImageNetInfo

    synsets = ImageNetInfo("imagenet1k").label_names()  # type: ignore[no-untyped-call]
    parts = {}
    for part in ("train", "val"):
        parts[part] = _classes(folder / part)
        missing = sorted(set(synsets) - set(parts[part]))
        if missing:
            raise UserError(f"{folder / part} lacks {len(missing)} of the 1,000 classes, the first {missing[0]}; {_REMEDY}")
    train = {name: _draw(name, parts["train"][name], IMAGENET_TRAIN) for name in synsets}
    return Source(synsets, _by_class(train), _by_class({name: parts["val"][name] for name in synsets}))


def _torchvision(kind: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, kind)


def _verify(folder: Path, sums: Iterable[Sequence[str]]) -> None:
    """Raises UserError naming the first file that is not the published one. sums: pairs of name and MD5."""
    for name, expected in sums:
        file = folder / name
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); {_REMEDY}") from None
        if found != expected:
            raise UserError(f"{file} is not the published file (its MD5 is {found}, not {expected}); {_REMEDY}")


def _classes(folder: Path) -> dict[str, list[str]]:
    """Paths of the images in each subfolder; folders and paths are sorted by name."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not hidden(entry.name) and entry.is_dir())
        return {name: [os.path.join(folder, name, image) for image in _image_names(folder / name)] for name in names}
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); {_REMEDY}") from None


def _image_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not hidden(entry.name) and entry.name.lower().endswith(_SUFFIXES))


def _draw(name: str, images: Sequence[str], count: int) -> list[str]:
    """The `count` images of a class whose names have the smallest digests, independent of other files in the folder."""

    def digest(path: str) -> bytes:
        return hashlib.sha256(f"{name}/{os.path.basename(path)}".encode()).digest()

    return sorted(sorted(images, key=digest)[:count])


def _by_class(images: Mapping[str, Sequence[str]]) -> Split:
    return _split((path, label) for label, paths in enumerate(images.values()) for path in paths)


def _split(rows: Iterable[tuple[str, int]]) -> Split:
    paths, labels = [], []
    for path, label in rows:
        paths.append(path)
        labels.append(label)
    return Split(np.array(labels, dtype=np.int64), paths)


READERS: Mapping[str, Reader] = {
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "food101": _listed("Food101", ("train",), "test"),
    "dtd": _listed("DTD", ("train", "val"), "test"),
    "fgvc_aircraft": _listed("FGVCAircraft", ("trainval",), "test"),
    "flowers102": _listed("Flowers102", ("train", "val"), "test"),
    "caltech101": _caltech,
    "oxford_iiit_pet": _pets,
    "stanford_cars": _listed("StanfordCars", ("train",), "test"),
    "imagenet": _imagenet,
}
