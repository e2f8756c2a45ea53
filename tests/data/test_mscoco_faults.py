import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import UserError

from .coco_maker import CAPTIONS, INSTANCES, drop, edit, opened, put

MALFORMED = {
    "no images": (CAPTIONS, drop("images"), "'images'"),
    "no annotations": (CAPTIONS, drop("annotations"), "'annotations'"),
    "a list": (CAPTIONS, lambda table: [table], "'images'"),
    "rows by name": (CAPTIONS, lambda table: {**table, "images": {}}, "'images'"),
    "row no object": (CAPTIONS, lambda table: table["annotations"].insert(4, "x"), "annotations[4]"),
    "id a string": (CAPTIONS, put("images", 3, "id", "7"), "images[3]: the field 'id' is \"7\""),
    "id a bool": (CAPTIONS, put("images", 3, "id", True), "images[3]: the field 'id' is true"),
    "no file name": (
        CAPTIONS,
        lambda table: table["images"][2].pop("file_name") and None,
        "images[2]: the field 'file",
    ),
    "caption null": (CAPTIONS, put("annotations", 5, "caption", None), "annotations[5]: the field 'caption' is null"),
    "unknown image": (CAPTIONS, put("annotations", 5, "image_id", 999), "annotations[5]: there is no image 999"),
    "id twice": (CAPTIONS, put("images", 3, "id", 1), "images[3]: the image id 1 occurs twice"),
    "file twice": (CAPTIONS, put("images", 3, "file_name", "000000000001.jpg"), "images[3]: the file 000000000001.jpg"),
    "no categories": (INSTANCES, drop("categories"), "'categories'"),
    "unknown category": (
        INSTANCES,
        put("annotations", 2, "category_id", 77),
        "annotations[2]: there is no category 77",
    ),
    "area a string": (INSTANCES, put("annotations", 2, "area", "1"), "annotations[2]: the field 'area'"),
    "area NaN": (INSTANCES, put("annotations", 2, "area", float("nan")), "annotations[2]: the area is nan"),
    "area endless": (INSTANCES, put("annotations", 2, "area", float("inf")), "annotations[2]: the area is inf"),
    "area negative": (INSTANCES, put("annotations", 2, "area", -1), "annotations[2]: the area is -1"),
}


@pytest.mark.parametrize("on_error", ["error", "skip"])
@pytest.mark.parametrize("case", MALFORMED)
def test_unexpected_shapes(root: Path, case: str, on_error: str) -> None:
    file, change, problem = MALFORMED[case]
    edit(root, file, change)
    assert problem in complaint(root, file, on_error=on_error)


def complaint(root: Path | None, *names: str, **params: Any) -> str:
    """The message of the UserError that opening raises; it is one line and contains `names`."""
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names), message
    return message


@pytest.mark.parametrize("file", [CAPTIONS, "captions_val2017.json", "instances_train2017.json", INSTANCES])
def test_json_cut_in_half(root: Path, file: str) -> None:
    path = root / "annotations" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    complaint(root, str(path), "download it again")
    path.write_bytes(b"\xff\xfe\xfa\xfb" * 9)
    complaint(root, str(path))


def test_missing_places(root: Path, tmp_path: Path) -> None:
    complaint(None, "--data-root")
    complaint(tmp_path / "nowhere", "--data-root", str(tmp_path / "nowhere"))
    complaint(root, str(root / "annotations" / "captions_train2014.json"), year="2014")
    (root / "annotations" / "captions_val2017.json").rename(tmp_path / "kept")
    complaint(root, str(root / "annotations" / "captions_val2017.json"))
    (tmp_path / "kept").rename(root / "annotations" / "captions_val2017.json")
    shutil.rmtree(root / "val2017")
    complaint(root, str(root / "val2017"), on_error="skip")
    shutil.rmtree(root / "annotations")
    complaint(root, str(root / "annotations"), "captions_train2017.json")


def test_missing_images(root: Path) -> None:
    for number in (3, 5):
        (root / f"train2017/{number:012d}.jpg").unlink()
    complaint(root, str(root / "train2017"), "lacks 2 ", "000000000003.jpg", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_missing"] == 2
    assert len(bundle.train) == 22
    assert len(bundle.tasks[0].train_labels) == 22
    assert "train2017/000000000003.jpg" not in bundle.train.uids
    shutil.rmtree(root / "train2017")
    (root / "train2017").mkdir()
    complaint(root, "no images", "train", on_error="skip")


def test_a_file_name_cannot_leave_its_folder(root: Path) -> None:
    edit(root, CAPTIONS, put("images", 0, "file_name", "../val2017/000000000025.jpg"))
    complaint(root, "lacks 1 ", "../val2017/000000000025.jpg")


def test_captionless_images(root: Path) -> None:
    def blank(table: Any) -> None:
        for row in table["annotations"]:
            if row["image_id"] == 4:
                row["caption"] = " \n"
        table["annotations"] = [row for row in table["annotations"] if row["image_id"] != 7]
        table["annotations"].append({"image_id": 1, "caption": ""})

    edit(root, CAPTIONS, blank)
    complaint(root, CAPTIONS, "image 4 ", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_captionless"] == 2
    assert len(bundle.train) == 22
    assert all(caption.strip() for caption in bundle.train.captions)


def test_unreadable_images(root: Path, tmp_path: Path) -> None:
    for number in (2, 26):
        split = "train" if number < 25 else "val"
        (root / f"{split}2017/{number:012d}.jpg").write_bytes(b"\xff\xd8\xff")
    bundle = opened(root)
    with pytest.raises(UserError, match=r"000000000002\.jpg.*--set data\.on_error=skip"):
        bundle.train.images.load(np.arange(24))
    for _ in range(2):
        skipped = opened(root, tmp_path / "cache", on_error="skip")
        assert {name: skipped.facts[name] for name in skipped.facts if name != "year"} == {
            "skipped_missing": 0, "skipped_unreadable": 2, "skipped_captionless": 0,
        }  # fmt: skip
        assert len(skipped.train) == 23
        assert len(skipped.holdout) + len(skipped.test) == 11
        assert set(skipped.holdout.uids) <= set(bundle.holdout.uids)
        for part in (skipped.train, skipped.holdout, skipped.test):
            part.images.load(np.arange(len(part)))
    assert skipped.fingerprint == opened(root, None, on_error="skip").fingerprint
