"""Readers of labelled image sets as their publishers ship them: torchvision's layouts, and folders of classes."""

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
from bench.errors import UserError

IMAGENET_TRAIN = 50
"""Training images of each ImageNet class: 50,000 in all."""
CALTECH_TRAIN = 30
"""Training images of each class of Caltech-101; the others are for testing."""

_SUFFIXES = (".jpg", ".jpeg", ".png")
_MEND = "download it again, or move the set's folder away to leave the set out"


@dataclass(frozen=True, eq=False)
class Split:
    """Labels int64 (n,), and the images: paths of n files, or pixels uint8 (n, height, width, 3)."""

    labels: NDArray[np.int64]
    paths: Sequence[str] = ()
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled set: the names of its classes as the files have them, in the order of the labels, and its splits."""

    names: Sequence[str]
    train: Split
    test: Split


Reader = Callable[[Path], Source]
"""Opens the folder that holds a set, without decoding images. Raises UserError or whatever its library raises."""


def _cifar(kind: str) -> Reader:
    def read(folder: Path) -> Source:
        data = _torchvision(kind)
        _verify(folder / data.base_folder, cifar.published(data))
        train, test = (cifar.read(data, folder, part) for part in (True, False))
        return Source(train.classes, *(Split(part.targets, pixels=part.data) for part in (train, test)))

    return read


def _listed(kind: str, train: Sequence[str], test: str, images: str = "_image_files") -> Reader:
    """A set of torchvision that knows its files and labels when it is opened; `train` and `test` are its splits."""

    def read(folder: Path) -> Source:
        data = _torchvision(kind)
        if kind == "Flowers102":
            _verify(folder / "flowers-102", [data._file_dict[part] for part in ("label", "setid")])
        parts = {name: data(folder, split=name) for name in (*train, test)}
        names = list(parts[test].classes)
        for name, part in parts.items():
            if list(part.classes) != names:
                raise UserError(f"{folder}: the lists of the splits {name} and {test} have different classes; {_MEND}")
        rows = {name: _rows(getattr(part, images, None), part) for name, part in parts.items()}
        return Source(names, _split(row for name in train for row in rows[name]), _split(rows[test]))

    return read


def _rows(images: Any, part: Any) -> list[tuple[str, int]]:
    return list(part._samples) if images is None else list(zip(map(str, images), part._labels, strict=True))


def _pets(folder: Path) -> Source:
    """Oxford-IIIT Pet, with the class names in the case of its files: cats' upper, dogs' lower."""
    source = _listed("OxfordIIITPet", ("trainval",), "test", "_images")(folder)
    names = {
        label: Path(path).stem.rpartition("_")[0] for path, label in zip(source.test.paths, source.test.labels, strict=True)
    }
    return Source([names[label] for label in sorted(names)], source.train, source.test)


def _caltech(folder: Path) -> Source:
    """Caltech-101 with its background class: 30 images a class drawn for training, which fall alike on every machine."""
    classes = _classes(folder / "caltech101" / "101_ObjectCategories")
    train = {name: _draw(name, images, CALTECH_TRAIN) for name, images in classes.items()}
    rest = {name: [image for image in images if image not in set(train[name])] for name, images in classes.items()}
    return Source(list(classes), _by_class(train), _by_class(rest))


def _imagenet(folder: Path) -> Source:
    """ImageNet-1K: 50 training images a class, drawn alike on every machine, and the whole validation split for testing."""
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo("imagenet1k").label_names()
    parts = {}
    for part in ("train", "val"):
        parts[part] = _classes(folder / part)
        missing = sorted(set(synsets) - set(parts[part]))
        if missing:
            raise UserError(f"{folder / part} lacks {len(missing)} of the 1,000 classes, the first {missing[0]}; {_MEND}")
    train = {name: _draw(name, parts["train"][name], IMAGENET_TRAIN) for name in synsets}
    return Source(synsets, _by_class(train), _by_class({name: parts["val"][name] for name in synsets}))


def _torchvision(kind: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, kind)


def _verify(folder: Path, sums: Iterable[Sequence[str]]) -> None:
    """Raises UserError naming the first file that is not the published one; `sums` are pairs of name and MD5."""
    for name, expected in sums:
        file = folder / name
        try:
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); {_MEND}") from None
        if found != expected:
            raise UserError(f"{file} is not the published file (its MD5 is {found}, not {expected}); {_MEND}")


def _classes(folder: Path) -> dict[str, list[str]]:
    """Paths of the images of each subfolder; both sorted by name."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        return {name: [os.path.join(folder, name, image) for image in _image_names(folder / name)] for name in names}
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); {_MEND}") from None


def _image_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.lower().endswith(_SUFFIXES) and entry.name[:2] != "._")


def _draw(name: str, images: Sequence[str], count: int) -> list[str]:
    """`count` of the images of a class: those whose names have the least digests, whatever else is in the folder."""

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
