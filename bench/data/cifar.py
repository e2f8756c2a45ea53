"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their published pickles, read without running code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from bench.errors import UserError

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ARRAYS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _RECONSTRUCT,  # numpy 1, as published
    "numpy._core.multiarray._reconstruct": _RECONSTRUCT,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
}


@dataclass(frozen=True, eq=False)
class Batches:
    """One split. data: uint8 (n, 32, 32, 3); targets: int64 (n,); classes: class names in label order."""

    data: NDArray[np.uint8]
    targets: NDArray[np.int64]
    classes: Sequence[str]


def published(kind: type[CIFAR10]) -> list[tuple[str, str]]:
    """Name and MD5 of each published file of `kind`, a class of torchvision."""
    return [(name, md5) for name, md5 in (*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"]))]


def read(kind: type[CIFAR10], root: Path, train: bool, download: bool = False) -> Batches:
    """Read one split of the data set in `root`, with `download` fetching it first.

    Raises
    ------
    RuntimeError
        If the files are missing or not the published ones.
    UserError
        If a file contains anything but arrays, numbers and strings.
    """
    if download:
        download_and_extract_archive(kind.url, root, filename=kind.filename, md5=kind.tgz_md5)
    folder = root / kind.base_folder
    if not all(check_integrity(folder / name, md5) for name, md5 in published(kind)):
        raise RuntimeError(f"{folder} does not hold the published files")
    batches = [_content(folder / name) for name, _ in (kind.train_list if train else kind.test_list)]
    pixels = np.vstack([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([batch["labels" if "labels" in batch else "fine_labels"] for batch in batches])
    return Batches(pixels, labels.astype(np.int64), _content(folder / kind.meta["filename"])[kind.meta["key"]])


class _Data(pickle.Unpickler):
    """Unpickles NumPy arrays and plain Python values; imports and calls nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")
        self._file = stream.name

    def find_class(self, module: str, name: str) -> Any:
        if (found := _ARRAYS.get(f"{module}.{name}")) is None:
            raise UserError(
                f"{self._file} contains {module}.{name}, but only arrays, numbers and strings are allowed: delete the file"
            )
        return found


def _content(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return _Data(stream).load()  # type: ignore[no-any-return]
