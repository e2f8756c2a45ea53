import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli.main import main
from bench.errors import UserError

from .coco_maker import CAPTIONS, INSTANCES, drop, edit, opened, put
from .pixels import leaks

MALFORMED = {
    "no images": (CAPTIONS, drop("images"), "'images'"),
    "no annotations": (CAPTIONS, drop("annotations"), "'annotations'"),
    "a list": (CAPTIONS, lambda table: [table], "'images'"),
    "rows by name": (CAPTIONS, lambda table: {**table, "images": {}}, "'images'"),
    "row no object": (CAPTIONS, lambda table: table["annotations"].insert(4, "x"), "annotations[4]"),
    "id a list": (CAPTIONS, put("images", 3, "id", ["7"]), "images[3]: the field 'id' is [\"7\"]"),
    "id a fraction": (CAPTIONS, put("images", 3, "id", 1.5), "images[3]: the field 'id' is 1.5"),
    "id NaN": (CAPTIONS, put("annotations", 3, "image_id", float("nan")), "annotations[3]: the field 'image_id' is NaN"),
    "caption a number": (CAPTIONS, put("annotations", 5, "caption", 7), "annotations[5]: the field 'caption' is 7"),
    "caption NaN": (CAPTIONS, put("annotations", 5, "caption", float("nan")), "annotations[5]: the field 'caption' is NaN"),
    "caption an object": (CAPTIONS, put("annotations", 5, "caption", {"en": "x"}), "annotations[5]: the field 'caption' is {"),
    "name an object": (CAPTIONS, put("images", 3, "file_name", {}), "images[3]: the field 'file_name' is {}"),
    "unknown id": (CAPTIONS, put("annotations", 5, "image_id", "x\ud83d"), "annotations[5]: there is no image x\ufffd"),
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
    "area NaN": (INSTANCES, put("annotations", 2, "area", float("nan")), "annotations[2]: the field 'area' is NaN"),
    "area endless": (INSTANCES, put("annotations", 2, "area", float("inf")), "annotations[2]: the field 'area' is Infinity"),
    "area negative": (INSTANCES, put("annotations", 2, "area", -1), "annotations[2]: the field 'area' is -1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_unexpected_shapes(root: Path, case: str) -> None:
    """A file that lacks a list is refused; an entry that is not as it should be is named, and left out alone."""
    file, change, problem = MALFORMED[case]
    edit(root, file, change)
    assert problem in complaint(root, file)
    if problem.startswith("'"):
        complaint(root, file, problem, on_error="skip")
        return
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_malformed"] + bundle.facts["skipped_duplicate"] >= 1
    assert len(bundle.train) in (23, 24)
    assert len(bundle.holdout) + len(bundle.test) == 12
    json.dumps(list(bundle.train.captions), ensure_ascii=False).encode()


def complaint(root: Path | None, *names: str, **params: Any) -> str:
    """The message of the UserError that opening raises; it is one line and contains `names`."""
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names), message
    return message


@pytest.mark.parametrize("file", [CAPTIONS, "captions_val2017.json", "instances_train2017.json", INSTANCES])
def test_truncated_json(root: Path, file: str) -> None:
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
        (root / f"{split}2017/{number:012d}.jpg").write_bytes(b"\xff\xd8\xff" + b"0" * number)
    bundle = opened(root)
    with pytest.raises(UserError, match=r"000000000002\.jpg.*--set data\.on_error=skip"):
        bundle.train.images.load(np.arange(24))
    for _ in range(2):
        skipped = opened(root, tmp_path / "cache", on_error="skip")
        assert {name: count for name, count in skipped.facts.items() if name != "year" and count} == {"skipped_unreadable": 2}
        assert len(skipped.train) == 23
        assert len(skipped.holdout) + len(skipped.test) == 11
        assert set(skipped.holdout.uids) <= set(bundle.holdout.uids)
        for part in (skipped.train, skipped.holdout, skipped.test):
            part.images.load(np.arange(len(part)))
    assert skipped.fingerprint == opened(root, None, on_error="skip").fingerprint


def test_ids_may_be_numbers_or_strings(root: Path) -> None:
    """As numbers or texts of either file."""
    plain = opened(root)

    def texts(table: Any) -> None:
        for row in table["images"]:
            row["id"] = str(row["id"])

    for file, change in (
        (CAPTIONS, texts),
        (CAPTIONS, lambda table: [row.update(image_id=float(row["image_id"])) for row in table["annotations"]] and None),
        (INSTANCES, lambda table: [row.update(image_id=str(row["image_id"])) for row in table["annotations"]] and None),
        (INSTANCES, lambda table: [row.update(id=str(row["id"])) for row in table["categories"]] and None),
    ):
        edit(root, file, change)
        bundle = opened(root)
        assert list(bundle.train.captions) == list(plain.train.captions)
        assert bundle.tasks[0].test_labels.tolist() == plain.tasks[0].test_labels.tolist()

    def named(table: Any) -> None:
        for row in table["images"]:
            row["id"] = f"image {row['id']}"
        for row in table["annotations"]:
            row["image_id"] = f"image {row['image_id']:.0f}"

    edit(root, CAPTIONS, named)
    assert list(opened(root).train.uids) == list(plain.train.uids)


@pytest.mark.parametrize("prefix", ["images/", "./", "a/b/../c/", "train2017/"])
def test_names_may_hold_folders(root: Path, prefix: str) -> None:
    plain = opened(root)
    pixels = plain.train.images.load(np.arange(24))
    edit(root, CAPTIONS, lambda table: [row.update(file_name=prefix + row["file_name"]) for row in table["images"]] and None)
    folder = root / "train2017"
    if prefix in ("images/", "a/b/../c/"):
        (folder / prefix.replace("b/../", "")).mkdir(parents=True)
        for image in list(folder.glob("*.jpg")):
            image.rename(folder / prefix.replace("b/../", "") / image.name)
    bundle = opened(root)
    assert [Path(uid).name for uid in bundle.train.uids] == [Path(uid).name for uid in plain.train.uids]
    assert list(bundle.train.captions) == list(plain.train.captions)
    assert np.array_equal(bundle.train.images.load(np.arange(24)), pixels)


def test_images_of_both_splits_and_copies(root: Path) -> None:
    """What is in train is in no half of val, and copies within val are in one half."""
    for copy, of in ((25, 3), (26, 27), (28, 27), (29, 27), (30, 31), (32, 31)):
        source = root / ("train2017" if of < 25 else "val2017") / f"{of:012d}.jpg"
        shutil.copy(source, root / "val2017" / f"{copy:012d}.jpg")
    bundle = opened(root)
    assert leaks(bundle) == 0
    assert bundle.facts["val_images_in_train"] == 1
    assert len(bundle.holdout) + len(bundle.test) == 11


def test_lone_surrogates_are_replaced(root: Path) -> None:
    file = root / "annotations" / CAPTIONS
    file.write_text(file.read_text().replace("Something nice", "Half \\ud83d and whole \\ud83d\\ude00"))
    captions = [opened(root, caption_seed=seed).train.captions for seed in range(4)]
    found = {text for texts in captions for text in texts if "Half" in text}
    assert found == {"Half \ufffd and whole \U0001f600 to look at"}


def test_verify_reports_its_findings_if_every_image_is_affected(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(root, CAPTIONS, lambda table: [row.update(caption=5) for row in table["annotations"]] and None)
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"mscoco:{root}"])
    assert done.value.code == 2
    told = capsys.readouterr()
    assert "captionless: 24\n" in told.out
    assert "malformed: 72\n" in told.out
    assert "annotations[0]: the field 'caption' is 5" in told.out
    assert "no images for the part 'train'" in told.err
