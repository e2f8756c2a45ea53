import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data import coco_objects
from bench.data.decoding import decode
from bench.data.mscoco import MSCOCO
from bench.data.vocabularies import imagenet
from bench.registry import datasets

from .coco_maker import CAPTIONS, INSTANCES, KINDS, edit, make_coco, opened, put


def test_registered() -> None:
    assert datasets["mscoco"].plugin is MSCOCO
    assert MSCOCO.needs_root


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_layouts_of_both_years(tmp_path: Path, year: str) -> None:
    bundle = opened(make_coco(tmp_path, year))
    first = "COCO_train2014_000000000001.jpg" if year == "2014" else "000000000001.jpg"
    assert bundle.train.uids[0] == f"train{year}/{first}"
    assert bundle.facts["year"] == year
    assert (len(bundle.train), len(bundle.holdout), len(bundle.test)) == (24, 6, 6)
    assert bundle.vocabulary == imagenet()
    assert bundle.image_size == 16
    assert not set(bundle.holdout.uids) & set(bundle.test.uids)
    everything = {f"val{year}/{path.name}" for path in (tmp_path / f"val{year}").iterdir()}
    assert set(bundle.holdout.uids) | set(bundle.test.uids) == everything


def test_auto_prefers_2017(tmp_path: Path) -> None:
    make_coco(make_coco(tmp_path, "2014", train=30), "2017")
    assert opened(tmp_path).facts["year"] == "2017"
    assert len(opened(tmp_path, year="2014").train) == 30
    assert opened(tmp_path).fingerprint == opened(tmp_path, year="2017").fingerprint


def test_images_captions_and_members_correspond(root: Path) -> None:
    bundle = opened(root)
    table = json.loads((root / "annotations" / "captions_train2017.json").read_text())
    for part in (bundle.train, bundle.holdout, bundle.test):
        pixels = part.images.load(np.arange(len(part)))
        for row, uid in enumerate(part.uids):
            assert np.array_equal(pixels[row].numpy(), decode(root / uid, 16))
            kind = list(KINDS)[(int(Path(uid).stem) - 1) % 3]
            assert [bundle.vocabulary.names[member] for member in part.members[row]] == [kind]
            assert kind in part.captions[row] or part.captions[row] == "Something nice to look at"
    written = {(row["image_id"], row["caption"].strip()) for row in table["annotations"]}
    pairs = zip(bundle.train.uids, bundle.train.captions, strict=True)
    assert all((int(Path(uid).stem), caption) in written for uid, caption in pairs)


def test_one_random_caption_for_each_image(tmp_path: Path) -> None:
    make_coco(tmp_path, train=120)
    captions = [list(opened(tmp_path, caption_seed=seed).train.captions) for seed in (0, 0, 1)]
    assert captions[0] == captions[1] != captions[2]
    plain = sum(caption == "Something nice to look at" for caption in captions[0])
    assert 20 < plain < 60
    edit(tmp_path, "captions_train2017.json", lambda table: table["images"].reverse())
    assert list(opened(tmp_path).train.captions) == captions[0][::-1]


def test_objects_task(root: Path) -> None:
    bundle = opened(root)
    (task,) = bundle.tasks
    assert (task.name, task.vocabulary.names) == ("objects", ("fish", "fruit"))
    assert task.vocabulary.templates == imagenet().templates
    assert bundle.task_reason == ""
    expected = ["fish" if (int(Path(uid).stem) - 1) % 3 == 0 else "fruit" for uid in bundle.test.uids]
    assert [task.vocabulary.names[label] for label in task.test_labels] == expected
    assert task.train_labels.tolist() == [0, 1, 1] * 8
    assert task.train_labels.dtype == np.int64
    whole = bundle.test.images.load(np.arange(6))
    assert len(task.test_images) == 6
    assert (task.test_images.load(np.arange(6)) == whole).all()


def test_images_without_labels_are_not_in_the_task(root: Path) -> None:
    bundle = opened(root)
    unlabelled = int(Path(bundle.test.uids[0]).stem)

    def forget(table: dict[str, Any]) -> None:
        table["annotations"] = [row for row in table["annotations"] if row["image_id"] != unlabelled]

    edit(root, INSTANCES, forget)
    (task,) = opened(root).tasks
    assert (task.test_images.load(np.arange(5)) == bundle.test.images.load(np.arange(1, 6))).all()
    assert task.test_labels.tolist() == bundle.tasks[0].test_labels.tolist()[1:]


def test_areas_of_a_category_add_up_and_crowds_do_not_count(root: Path) -> None:
    def areas(table: dict[str, Any]) -> None:
        table["annotations"] = [
            {"image_id": 1, "category_id": 1, "area": 50, "iscrowd": 0},
            {"image_id": 1, "category_id": 4, "area": 30},
            {"image_id": 1, "category_id": 9, "area": 30.5},
            {"image_id": 1, "category_id": 1, "area": 5000, "iscrowd": 1},
            {"image_id": 2, "category_id": 1, "area": 5, "iscrowd": 0},
            {"image_id": 3, "category_id": 1, "area": 5, "iscrowd": 1},
            {"image_id": 4, "category_id": 4, "area": 7},
            {"image_id": 4, "category_id": 1, "area": 7},
        ]

    edit(root, "instances_train2017.json", areas)
    (task,) = opened(root).tasks
    assert [task.vocabulary.names[label] for label in task.train_labels] == ["fruit", "fish", "fish"]
    assert (task.train_images.load(np.array([2]))[0].numpy() == decode(root / "train2017/000000000004.jpg", 16)).all()


def test_only_shared_categories_and_a_cap(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_cup(table: dict[str, Any]) -> None:
        table["categories"].append({"id": 11, "name": "cup"})
        table["annotations"].append({"image_id": 5, "category_id": 11, "area": 10**9})

    edit(root, "instances_train2017.json", add_cup)
    (task,) = opened(root).tasks
    assert task.vocabulary.names == ("fish", "fruit")
    assert len(task.train_images) == len(task.train_labels) == 23
    monkeypatch.setattr(coco_objects, "TASK_TRAIN_IMAGES", 10)
    first, second = (opened(root).tasks[0] for _ in range(2))
    assert 9 <= len(first.train_images) <= 10
    assert first.train_labels.tolist() == second.train_labels.tolist()


def test_without_instances_no_task_and_the_reason(root: Path) -> None:
    (root / "annotations" / "instances_val2017.json").unlink()
    bundle = opened(root)
    assert bundle.tasks == ()
    assert "instances_val2017.json" in bundle.task_reason
    assert "instances_train2017.json" not in bundle.task_reason


def test_without_shared_categories_no_task(root: Path) -> None:
    edit(root, "instances_val2017.json", lambda table: table["annotations"].clear())
    assert opened(root).tasks == ()
    assert opened(root).task_reason


def repaint(root: Path) -> None:
    Image.new("RGB", (77, 77)).save(root / "val2017" / "000000000030.jpg")


FINGERPRINTED: dict[str, Callable[[Path], object]] = {
    "image": repaint,
    "caption": lambda root: edit(root, CAPTIONS, put("annotations", 0, "caption", "a lemon")),
    "label": lambda root: edit(root, INSTANCES, put("annotations", 0, "category_id", 4)),
    "no labels": lambda root: (root / "annotations" / INSTANCES).unlink(),
}


@pytest.mark.parametrize("what", FINGERPRINTED)
def test_fingerprint_changes_with_the_data(root: Path, tmp_path: Path, what: str) -> None:
    before = opened(root).fingerprint
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    (moved / "train2017" / "readme.txt").write_text("not an image of the data set")
    assert opened(moved, tmp_path / "cache").fingerprint == before
    FINGERPRINTED[what](moved)
    assert opened(moved).fingerprint != before


def test_fingerprint_changes_with_the_parameters(root: Path) -> None:
    prints = [opened(root).fingerprint, opened(root, size=17).fingerprint, opened(root, caption_seed=1).fingerprint]
    prints.append(opened(root, on_error="skip").fingerprint)
    assert len(set(prints)) == 4


def test_opening_decodes_nothing_and_is_quick(tmp_path: Path) -> None:
    make_coco(tmp_path, train=9, val=4)

    def many(table: Any) -> None:
        for number in range(5000):
            table["images"].append({"id": 10_000 + number, "file_name": f"{number}.jpg"})
            table["annotations"].append({"image_id": 10_000 + number, "caption": "a banana by a fire truck"})
            (tmp_path / "train2017" / f"{number}.jpg").write_bytes(b"no image")

    edit(tmp_path, CAPTIONS, many)
    imagenet()
    start = time.perf_counter()
    assert len(opened(tmp_path).train) == 5009
    assert time.perf_counter() - start < 2
