from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import DataPlace, DatasetBundle, Images
from bench.data.mentions import MentionIndex
from bench.data.scenes import ScenesDataset, dataset, grammar
from bench.data.scenes.render import render

SIZES = {"train": 80, "holdout": 24, "test": 40, "probe_train": 30}


def _open(cache: Path | None = None, side: int = 16, **changes: Any) -> DatasetBundle:
    params = ScenesDataset.Params(**{**SIZES, **changes})
    return ScenesDataset().open(params, side, DataPlace(root=None, cache=cache))  # type: ignore[arg-type]


def _all(images: Images) -> torch.Tensor:
    return images.load(np.arange(len(images)))


def _images(bundle: DatasetBundle) -> dict[str, Images]:
    return {
        "train": bundle.train.images,
        "holdout": bundle.holdout.images,
        "test": bundle.test.images,
        "probe_train": bundle.tasks[0].train_images,
    }


def test_sizes_uids_and_members() -> None:
    bundle = _open()
    assert {name: len(images) for name, images in _images(bundle).items()} == SIZES
    for pairs in (bundle.train, bundle.holdout, bundle.test):
        assert len(set(pairs.uids)) == len(pairs.captions) == len(pairs.members) == len(pairs)
        index = MentionIndex(bundle.vocabulary.names)
        for caption, members in zip(pairs.captions, pairs.members, strict=True):
            assert len(members) == 1
            assert {*index.members(caption)} <= {*members}


def test_deterministic() -> None:
    first, again = _open(), _open()
    assert first.fingerprint == again.fingerprint
    for name, images in _images(first).items():
        assert torch.equal(_all(images), _all(_images(again)[name]))
    assert list(first.train.captions) == list(again.train.captions)


@pytest.mark.parametrize("split", [name for name in SIZES if name != "train"])
def test_splits_do_not_depend_on_the_sizes_of_others(split: str) -> None:
    first, other = _open(), _open(None, 16, **{split: SIZES[split] + 7})
    assert first.fingerprint != other.fingerprint
    for name, images in _images(first).items():
        if name != split:
            assert torch.equal(_all(images), _all(_images(other)[name]))
    assert list(first.train.captions) == list(other.train.captions)


@pytest.mark.parametrize("sizes", [SIZES, dict.fromkeys(SIZES, 64)])
def test_splits_share_no_image(sizes: dict[str, int]) -> None:
    bundle = _open(None, 16, **sizes)
    pixels = torch.cat([_all(images).flatten(1) for images in _images(bundle).values()])
    assert len(torch.unique(pixels, dim=0)) == sum(sizes.values())
    assert list(bundle.holdout.captions) != list(bundle.test.captions)


def test_another_seed_gives_other_scenes() -> None:
    first, other = _open(), _open(seed=1)
    assert first.fingerprint != other.fingerprint != _open(side=32).fingerprint
    assert not torch.equal(_all(first.train.images), _all(other.train.images))
    assert list(first.train.captions) != list(other.train.captions)


def test_tasks() -> None:
    bundle = _open()
    assert [task.name for task in bundle.tasks] == ["object", "colour", "texture", "background"]
    kinds = (grammar.SHAPES, grammar.COLOURS, grammar.TEXTURES, grammar.BACKGROUNDS)
    for task, names in zip(bundle.tasks, kinds, strict=True):
        assert task.vocabulary.names == names
        assert (task.train_labels.dtype, task.test_labels.dtype) == (np.int64, np.int64)
        assert (len(task.train_labels), len(task.test_labels)) == (30, 40)
        assert 0 <= task.test_labels.min() <= task.test_labels.max() < len(names)
        assert all(len(prompts) == len(task.vocabulary.templates) for prompts in task.vocabulary.prompts())
    assert [(label,) for label in bundle.tasks[0].test_labels] == list(bundle.test.members)
    assert bundle.vocabulary == bundle.tasks[0].vocabulary


def test_all_classes_occur_at_the_default_size() -> None:
    bundle = ScenesDataset().open(ScenesDataset.Params(), 32, DataPlace(root=None, cache=None))  # type: ignore[arg-type]
    for task in bundle.tasks:
        for labels in (task.train_labels, task.test_labels):
            assert set(labels.tolist()) == set(range(len(task.vocabulary.names)))
    assert set(bundle.train.members) == {(shape,) for shape in range(12)}


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each rendering."""
    counted: list[int] = []

    def counting(scenes: Any, side: int) -> torch.Tensor:
        counted.append(len(scenes))
        return render(scenes, side)

    monkeypatch.setattr(dataset, "render", counting)
    return counted


def test_nothing_is_rendered_before_first_use(renders: list[int]) -> None:
    bundle = _open()
    assert renders == []
    bundle.train.images.load(np.array([3]))
    bundle.train.images.load(np.array([5, 1]))
    assert renders == [SIZES["train"]]


def test_rows_in_any_order() -> None:
    images = _open().holdout.images
    rows = np.array([5, 0, 5, 23])
    assert torch.equal(images.load(rows), _all(images)[torch.from_numpy(rows)])
    assert images.load(np.array([], dtype=np.int64)).shape == (0, 3, 16, 16)


def test_the_cache_is_read_again(tmp_path: Path, renders: list[int]) -> None:
    first = _all(_open(tmp_path).train.images)
    again = _all(_open(tmp_path).train.images)
    assert torch.equal(first, again)
    assert len(renders) == 1
    _all(_open(tmp_path, seed=1).train.images)
    assert len(renders) == 2
    (folder,) = (file.parent for file in tmp_path.rglob(f"{_open().fingerprint}/*"))
    assert [file.name for file in folder.iterdir()] == ["train.safetensors"], "nothing temporary is left"


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "flipped", "other", "shape"])
def test_a_damaged_cache_file_is_rendered_again(tmp_path: Path, damage: str, renders: list[int]) -> None:
    first = _all(_open(tmp_path).train.images)
    (file,) = tmp_path.rglob("train.safetensors")
    whole = file.read_bytes()
    if damage == "shape":
        dataset.save_file({"pixels": torch.zeros(3, 3, 16, 16, dtype=torch.uint8)}, file)
    elif damage == "other":
        dataset.save_file({"images": first}, file)
    else:
        flipped = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]
        file.write_bytes({"cut": whole[:-100], "empty": b"", "garbage": b"\xff" * 500, "flipped": flipped}[damage])
    assert torch.equal(_all(_open(tmp_path).train.images), first)
    assert len(renders) == 2
    assert file.read_bytes() == whole
    _all(_open(tmp_path).train.images)
    assert len(renders) == 2


def test_an_unwritable_cache_is_not_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert torch.equal(_all(_open(blocked).train.images), _all(_open().train.images))
