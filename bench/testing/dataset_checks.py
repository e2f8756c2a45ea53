"""Contract checks of data sets; those that need files (`needs_root`) are not opened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from bench.api import DataPlace, Dataset, DatasetBundle, Images, Pairs
from bench.registry import Entry
from bench.testing.small import NOWHERE, params_of

_SIDE = 16


def _unless_it_needs_files(check: Callable[[Entry[Dataset]], None]) -> Callable[[Entry[Dataset]], None]:
    @wraps(check)
    def checked(entry: Entry[Dataset]) -> None:
        if not entry.plugin.needs_root:
            check(entry)

    return checked


def _open(
    entry: Entry[Dataset], side: int = _SIDE, place: DataPlace = NOWHERE, changes: dict[str, Any] | None = None
) -> DatasetBundle:
    return entry.plugin().open(params_of(entry, **(changes or {})), side, place)


@cache
def _opened(entry: Entry[Dataset]) -> DatasetBundle:
    return _open(entry)


def _splits(data: DatasetBundle) -> dict[str, Pairs]:
    return {"train": data.train, "holdout": data.holdout, "test": data.test}


def _images(data: DatasetBundle) -> Iterator[tuple[str, Images, int]]:
    for name, pairs in _splits(data).items():
        yield name, pairs.images, len(pairs)
    for task in data.tasks:
        yield f"task {task.name}, train", task.train_images, len(task.train_labels)
        yield f"task {task.name}, test", task.test_images, len(task.test_labels)


@_unless_it_needs_files
def check_fingerprint(entry: Entry[Dataset]) -> None:
    before = _opened(entry).fingerprint
    assert before, "the fingerprint is empty"
    assert _open(entry, side=2 * _SIDE).fingerprint != before, "the fingerprint does not depend on the image size"
    for name, value in params_of(entry).model_dump().items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                after = _open(entry, changes={name: value + 1}).fingerprint
            except ValidationError:
                continue
            assert after != before, f"the fingerprint does not depend on the parameter '{name}'"


@_unless_it_needs_files
def check_opening_twice_is_equal(entry: Entry[Dataset]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for cache_folder in (None, Path(folder), Path(folder)):
            again = _open(entry, place=DataPlace(None, cache_folder))
            how = "from the cache" if cache_folder else "again"
            assert again.fingerprint == _opened(entry).fingerprint, f"opened {how}, the fingerprint is different"
            for name, pairs in _splits(again).items():
                first = _splits(_opened(entry))[name]
                for part in ("uids", "captions", "members"):
                    equal = list(getattr(first, part)) == list(getattr(pairs, part))
                    assert equal, f"opened {how}, the {part} of {name} are different"
                rows = np.arange(min(16, len(pairs)))
                assert torch.equal(first.images.load(rows), pairs.images.load(rows)), (
                    f"opened {how}, the pixels of {name} are different"
                )


@_unless_it_needs_files
def check_images(entry: Entry[Dataset]) -> None:
    data = _opened(entry)
    assert data.image_size == _SIDE, f"image_size is {data.image_size}; images of {_SIDE} pixels were requested"
    for where, images, count in _images(data):
        assert len(images) == count, f"{where}: {len(images)} images for {count} rows"
        rows = np.array([count - 1, 0, count // 2])
        pixels = images.load(rows)
        assert pixels.dtype == torch.uint8, f"{where}: images are {pixels.dtype}, not uint8"
        assert pixels.shape == (3, 3, _SIDE, _SIDE), f"{where}: 3 images have the shape {tuple(pixels.shape)}"
        single = torch.cat([images.load(rows[row : row + 1]) for row in range(3)])
        assert torch.equal(pixels, single), f"{where}: images loaded together differ from images loaded one by one"


@_unless_it_needs_files
def check_pairs(entry: Entry[Dataset]) -> None:
    data = _opened(entry)
    seen: dict[str, str] = {}
    for name, pairs in _splits(data).items():
        lengths = {len(pairs.uids), len(pairs.captions), len(pairs.members), len(pairs)}
        assert len(lengths) == 1, f"{name}: uids, captions and members differ in number: {sorted(lengths)}"
        assert len(pairs), f"{name} is empty"
        for uid, caption, members in zip(pairs.uids, pairs.captions, pairs.members, strict=True):
            assert uid not in seen, f"{name}: the uid {uid!r} is also in {seen[uid]}"
            seen[uid] = name
            assert isinstance(caption, str), f"{name}: the caption of {uid} is a {type(caption).__name__}"
            assert caption.strip(), f"{name}: the caption of {uid} is empty"
            valid = all(0 <= member < len(data.vocabulary.names) for member in members)
            assert valid, f"{name}: members {members} of {uid} are not indices of the vocabulary"
            assert len(set(members)) == len(members), f"{name}: members {members} of {uid} name a class twice"


@_unless_it_needs_files
def check_tasks(entry: Entry[Dataset]) -> None:
    data = _opened(entry)
    assert data.tasks or data.task_reason, "there are no downstream tasks, but task_reason does not say why"
    for vocabulary in (data.vocabulary, *(task.vocabulary for task in data.tasks)):
        assert len(vocabulary.names) > 1, f"a vocabulary has {len(vocabulary.names)} names"
        for template in vocabulary.templates:
            assert "{}" in template, f"the prompt template {template!r} has no placeholder {{}} for the class name"
        assert vocabulary.templates, "a vocabulary has no prompt templates"
    for task in data.tasks:
        for split, labels in (("train", task.train_labels), ("test", task.test_labels)):
            assert labels.dtype == np.int64, f"task {task.name}, {split}: labels are {labels.dtype}, not int64"
            valid = labels.min() >= 0 and labels.max() < len(task.vocabulary.names)
            assert valid, f"task {task.name}, {split}: labels are not indices of its vocabulary"


CHECKS: tuple[Callable[[Entry[Dataset]], None], ...] = (
    check_fingerprint,
    check_opening_twice_is_equal,
    check_images,
    check_pairs,
    check_tasks,
)
