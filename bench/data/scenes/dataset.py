"""`scenes`, the embedded data set: rendered deterministically, nothing is downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench.api import DataPlace, Dataset, DatasetBundle, Pairs, Params, Task, Vocabulary
from bench.data.scenes import grammar
from bench.data.scenes.render import Scenes, cover, draw, render
from bench.registry import register_dataset

_TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "object": ("shape", grammar.SHAPES),
    "colour": ("colour", grammar.COLOURS),
    "texture": ("texture", grammar.TEXTURES),
    "background": ("background", grammar.BACKGROUNDS),
}


class RenderedImages:
    """Images of scenes, rendered on first use and cached if there is a cache folder."""

    def __init__(self, scenes: Scenes, side: int, cache: Path | None, name: str) -> None:
        self._scenes = scenes
        self.side = side
        self._file = cache / f"{name}.safetensors" if cache else None

    def __len__(self) -> int:
        return len(self._scenes)

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The images at `indices`: uint8 (n, 3, side, side)."""
        return torch.from_numpy(self._pixels[indices])

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        expected = (len(self._scenes), 3, self.side, self.side)
        if self._file and self._file.exists():
            with contextlib.suppress(Exception):  # a damaged cache file is rendered again
                with safe_open(self._file, framework="pt") as stored:
                    pixels, digest = stored.get_tensor("pixels"), stored.metadata()["sha256"]
                if tuple(pixels.shape) == expected and _digest(pixels) == digest:
                    return np.asarray(pixels.numpy())
        pixels = render(self._scenes, self.side)
        if self._file:
            _cache(pixels, self._file)
        return pixels.numpy()


class ObjectMasks:
    """The outlines of the objects, computed when asked for."""

    def __init__(self, scenes: Scenes, side: int) -> None:
        self._scenes = scenes
        self._side = side

    def load(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return cover(self._scenes, np.asarray(indices), self._side)


def _digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.numpy().data).hexdigest()


def _cache(pixels: torch.Tensor, file: Path) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError, SafetensorError):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"pixels": pixels}, temporary, {"sha256": _digest(pixels)})
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


class ScenesParams(Params):
    train: int = Field(default=16384, ge=64, description="training pairs")
    holdout: int = Field(default=1024, ge=16, description="held-out images of the adversary")
    test: int = Field(default=2048, ge=16, description="labelled test images")
    probe_train: int = Field(default=4096, ge=16, description="labelled images for training linear probes")
    seed: int = Field(default=0, ge=0, description="seed of all images and captions")


@register_dataset("scenes")
class ScenesDataset(Dataset):
    """The embedded data set: rendered objects with colour, texture and background, captions from a varied grammar.

    The vocabulary is the 12 shapes; an image shows its shape. Tasks: `object` (shape), `colour`, `texture` and `background`.
    Nothing is downloaded.
    """

    version = "2"
    Params = ScenesParams

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"train": 256, "holdout": 64, "test": 64, "probe_train": 64}

    def open(self, params: ScenesParams, image_size: int, place: DataPlace) -> DatasetBundle:  # type: ignore[override]
        """Draw all scenes from `params.seed`; images are rendered on first use. See `Dataset.open`."""
        fingerprint = _fingerprint(self.version, params, image_size)
        cache = place.cache / "scenes" / fingerprint if place.cache else None
        sizes = {name: getattr(params, name) for name in ("train", "holdout", "test", "probe_train")}
        scenes = {name: draw(_rng(params.seed, name), size) for name, size in sizes.items()}
        images = {name: RenderedImages(scenes[name], image_size, cache, name) for name in sizes}
        pairs = {name: _pairs(name, scenes[name], images[name], params.seed) for name in ("train", "holdout", "test")}
        tasks = tuple(
            Task(
                name=task,
                vocabulary=Vocabulary(names, grammar.TEMPLATES[attribute]),
                train_images=images["probe_train"],
                train_labels=getattr(scenes["probe_train"], attribute),
                test_images=images["test"],
                test_labels=getattr(scenes["test"], attribute),
                test_uids=pairs["test"].uids,
            )
            for task, (attribute, names) in _TASKS.items()
        )
        return DatasetBundle(
            fingerprint=fingerprint,
            image_size=image_size,
            vocabulary=tasks[0].vocabulary,
            train=pairs["train"],
            holdout=pairs["holdout"],
            test=pairs["test"],
            tasks=tasks,
            synonyms=grammar.SYNONYMS,
            elements=tuple(name for _, names in _TASKS.values() for name in names),
        )


def _fingerprint(version: str, params: ScenesParams, image_size: int) -> str:
    text = f"scenes {version} {params.model_dump_json()} {image_size}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rng(seed: int, split: str) -> np.random.Generator:
    return np.random.default_rng([seed, *split.encode()])


def _pairs(split: str, scenes: Scenes, images: RenderedImages, seed: int) -> Pairs:
    attributes = {name: getattr(scenes, name) for name in ("shape", "colour", "texture", "background")}
    return Pairs(
        uids=[f"{split}/{index:06d}" for index in range(len(scenes))],
        captions=grammar.captions(_rng(seed, f"{split} captions"), attributes, scenes.big),
        images=images,
        members=[(int(shape),) for shape in scenes.shape],
        masks=ObjectMasks(scenes, images.side),
    )
