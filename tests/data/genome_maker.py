"""Writes small data sets in the layout of Visual Genome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from bench.data.visual_genome import FOLDERS

KINDS = ("goldfish", "banana", "lemon")


def regions(image: int) -> list[dict[str, Any]]:
    """Seven regions as the publishers write them, one of them twice, two that name the image's kind."""
    kind = KINDS[image % len(KINDS)]
    phrases = [
        "the clock is green",
        f"a {kind} on the left",
        "a man walking.",
        "the clock is green",
        f"yellow {kind}",
        "sky",
        "a car",
    ]
    return [
        {"region_id": 100 * image + row, "width": 82, "height": 139, "image_id": image, "phrase": phrase, "y": 57, "x": 421}
        for row, phrase in enumerate(phrases)
    ]


def make_genome(root: Path, count: int = 20) -> Path:
    """Writes the descriptions and images of `count` images under `root`, ids from 1 on, and returns `root`."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    table = [{"regions": regions(image), "id": image} for image in range(1, count + 1)]
    (root / "region_descriptions.json").write_text(json.dumps(table))
    for image in range(1, count + 1):
        Image.new("RGB", (40, 30 + image), (image, 80, 200)).save(root / FOLDERS[image % 2] / f"{image}.jpg")
    return root
