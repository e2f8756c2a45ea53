"""Writes small data sets in the layout of MS-COCO."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.api.data import DataPlace, DatasetBundle
from bench.data.mscoco import MSCOCO, MSCOCOParams

CAPTIONS, INSTANCES = "captions_train2017.json", "instances_val2017.json"
KINDS = {"goldfish": (240, 120, 20), "banana": (235, 215, 60), "lemon": (150, 200, 40)}
CATEGORIES = [{"id": 1, "name": "fish"}, {"id": 4, "name": "fruit"}, {"id": 9, "name": "fruit"}]
_CATEGORY = {"goldfish": 1, "banana": 4, "lemon": 9}
_CAPTIONS = ("Something nice to look at", "A {} in the middle.", "one {}, seen from near by\n")


def make_coco(root: Path, year: str = "2017", train: int = 24, val: int = 12, side: int = 40, seed: int = 0) -> Path:
    """Writes both splits of `year` under `root`, captions and instances, and returns `root`.

    Image i of a split shows, and two of its three captions mention, the i-th of KINDS in turn. Ids start at 1 and run
    on from train to val.
    """
    rng = np.random.default_rng(seed)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    first = 1
    for split, count in (("train", train), ("val", val)):
        _make_split(root, f"{split}{year}", range(first, first + count), side, rng)
        first += count
    return root


def edit(root: Path, file: str, change: object) -> None:
    """Replaces the annotation table `file` by what `change` makes of it; `change` may also edit in place."""
    path = root / "annotations" / file
    table = json.loads(path.read_text())
    changed = change(table)  # type: ignore[operator]
    path.write_text(json.dumps(table if changed is None else changed))


def _make_split(root: Path, name: str, ids: range, side: int, rng: np.random.Generator) -> None:
    folder = root / name
    folder.mkdir(exist_ok=True)
    images, captions, instances = [], [], []
    for place, image_id in enumerate(ids):
        kind = list(KINDS)[place % len(KINDS)]
        file_name = f"COCO_{name}_{image_id:012d}.jpg" if name.endswith("2014") else f"{image_id:012d}.jpg"
        width, height = (side, side + 8) if place % 2 else (side + 12, side)
        noise = rng.normal(0, 6, (height, width, 3))
        Image.fromarray((np.array(KINDS[kind]) + noise).clip(0, 255).astype(np.uint8)).save(folder / file_name)
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for number, text in enumerate(_CAPTIONS):
            captions.append({"id": 10 * image_id + number, "image_id": image_id, "caption": text.format(kind)})
        instances.append(_instance(image_id, _CATEGORY[kind], width * height / 2, crowd=0))
        instances.append(_instance(image_id, 1 if kind != "goldfish" else 4, float(width * height), crowd=1))
    tables = {
        "captions": {"info": {}, "licenses": [], "images": images, "annotations": captions},
        "instances": {"info": {}, "images": images, "annotations": instances, "categories": CATEGORIES},
    }
    for kind, table in tables.items():
        (root / "annotations" / f"{kind}_{name}.json").write_text(json.dumps(table))


def _instance(image_id: int, category: int, area: float, crowd: int) -> dict[str, object]:
    outline = {"counts": [1, 2], "size": [3, 4]} if crowd else [[0.0, 0.0, 1.0, 1.0]]
    return {"image_id": image_id, "category_id": category, "area": area, "iscrowd": crowd, "segmentation": outline}


def opened(root: Path | None, cache: Path | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    """A folder opened by `mscoco`."""
    return MSCOCO().open(MSCOCOParams(**params), size, DataPlace(root, cache))


def drop(key: str) -> Callable[[Any], None]:
    def change(table: Any) -> None:
        del table[key]

    return change


def put(key: str, row: int, field: str, value: Any) -> Callable[[Any], None]:
    def change(table: Any) -> None:
        table[key][row][field] = value

    return change
