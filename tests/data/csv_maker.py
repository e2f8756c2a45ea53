"""Writes a CSV of pairs with its images, and opens it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from PIL import Image

from bench.api.data import DataPlace, DatasetBundle
from bench.data.csv_pairs import CsvPairs, CsvPairsParams

NAMES = ("goldfish", "banana", "lemon")
HEADER = ["filepath", "title"]


def opened(root: Path | None, cache: Path | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    return CsvPairs().open(CsvPairsParams(**params), size, DataPlace(root, cache))


def write(file: Path, rows: list[list[str]], separator: str = ",", encoding: str = "utf-8") -> None:
    with file.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=separator).writerows(rows)


def table(count: int = 20) -> list[list[str]]:
    return [HEADER, *([f"images/{row}.png", f"a {NAMES[row % 3]}, number {row}"] for row in range(count))]


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


def make(folder: Path, count: int = 20) -> Path:
    """A folder with images and train.csv."""
    (folder / "images").mkdir(parents=True)
    for row in range(count):
        Image.new("RGB", (20, 24), (row, 5, 200)).save(folder / "images" / f"{row}.png")
    write(folder / "train.csv", table(count))
    return folder
