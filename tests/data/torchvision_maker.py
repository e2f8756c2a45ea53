"""Writes small data sets in torchvision's layouts."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

GARMENTS = 10
DISHES = ("apple_pie", "hot_dog", "pad_thai")


class _Python2(pickle._Pickler):
    """Texts and bytes alike are the strings of Python 2, which published the sets."""

    def _string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, str: _string, bytes: _string}


def pickled(content: Any) -> bytes:
    """As Python 2 and numpy 1 wrote it."""
    stream = io.BytesIO()
    _Python2(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.", b"numpy.core.")


def cifar(root: Path, patch: pytest.MonkeyPatch, kind: str = "CIFAR10", train: int = 20, test: int = 12) -> Path:
    """Pickled batches as published, their sums told to torchvision; image i is of class i % 3 and has a
    grey of it, of train and test another."""
    plugin = getattr(torchvision.datasets, kind)
    key = "labels" if kind == "CIFAR10" else "fine_labels"
    folder = root / plugin.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickled(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name: str, count: int, lighter: int) -> list[str]:
        labels = [row % 3 for row in range(count)]
        greys = np.array([[50 * label + row + lighter for row, label in enumerate(labels)]], dtype=np.uint8)
        pixels = np.repeat(greys.T, 3072, axis=1)
        return write(name, {"data": pixels, key: labels})

    patch.setattr(plugin, "train_list", [batch(plugin.train_list[0][0], train, 0)])
    patch.setattr(plugin, "test_list", [batch(plugin.test_list[0][0], test, train)])
    names = ["maple_tree", "cat", "pickup_truck"]
    meta = write(plugin.meta["filename"], {plugin.meta["key"]: names})
    patch.setattr(plugin, "meta", {**plugin.meta, "md5": meta[1]})
    return root


def fashion(root: Path, train: int = 20, test: int = 12) -> Path:
    """IDX files as published, unpacked; image i is of class i % 10 and has the grey i, of test 200 + i."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", train), ("t10k", test)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8) + (200 if name == "t10k" else 0), 28 * 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        labels = bytes(row % GARMENTS for row in range(count))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels)
    return root


def food(root: Path, train: int = 6, test: int = 4) -> Path:
    """Images by class and the two JSON lists of them, as in the archive."""
    (root / "food-101" / "meta").mkdir(parents=True)
    for number, dish in enumerate(DISHES):
        (root / "food-101" / "images" / dish).mkdir(parents=True)
        for row in range(train + test):
            picture = Image.new("RGB", (60, 50 + row), (80 * number, 20 * row, 0))
            picture.save(root / "food-101" / "images" / dish / f"{1000 * number + row}.jpg")
    for split, rows in (("train", range(train)), ("test", range(train, train + test))):
        table = {dish: [f"{dish}/{1000 * number + row}" for row in rows] for number, dish in enumerate(DISHES)}
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(table))
    return root
