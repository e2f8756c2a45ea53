"""Lists of one's own: labels, published splits, several captions, Flickr's and Karpathy's files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.api.data import DataPlace, DatasetBundle, Findings
from bench.data import splits
from bench.data.classes import CATEGORIES
from bench.data.csv_pairs import CsvPairs, CsvPairsParams
from bench.data.karpathy import Karpathy, KarpathyParams
from bench.errors import UserError

from .pixels import leaks
from .test_csv import write

KINDS = ("red", "green", "blue")
COLUMNS = ["filepath", "title", "alt", "label", "split"]


def opened(root: Path, findings: Findings | None = None, **params: Any) -> DatasetBundle:
    return CsvPairs().open(CsvPairsParams(**params), 16, DataPlace(root, None, findings))


def karpathy(root: Path, **params: Any) -> DatasetBundle:
    return Karpathy().open(KarpathyParams(**params), 16, DataPlace(root, None))


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


def complaint(open_: Callable[[], object], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def rows(count: int = 30) -> list[list[str]]:
    """Image i is the i-th colour in turn; every third has no label; one in five is for val, another for test."""
    return [
        [f"images/{i}.png", f"title {i}" if i % 4 else " ", f"alt {i}", KINDS[i % 3] if i % 5 else "", _split(i)]
        for i in range(count)
    ]


def _split(i: int) -> str:
    return ("val", "Test", "train", "restval", "training")[i % 5]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i in range(30):
        colour = [i, i, i]
        colour[i % 3] = 220
        Image.new("RGB", (20, 24), tuple(colour)).save(tmp_path / "images" / f"{i}.png")
    write(tmp_path / "train.csv", [COLUMNS, *rows()])
    return tmp_path


def number(uid: str) -> int:
    return int(Path(uid.partition("#")[0]).stem)


def test_a_label_column_gives_members_and_a_task(root: Path) -> None:
    bundle = opened(root, caption_column="alt", label_column="label", classes=CATEGORIES, holdout_share=0.5)
    assert bundle.vocabulary.names == ("blue", "green", "red")
    for part in parts(bundle):
        expected = [() if number(uid) % 5 == 0 else (2 - number(uid) % 3,) for uid in part.uids]
        assert list(part.members) == expected
    (task,) = bundle.tasks
    assert task.name == "classes"
    for images, labels, part in (
        (task.train_images, task.train_labels, bundle.train),
        (task.test_images, task.test_labels, bundle.test),
    ):
        assert len(labels) == sum(number(uid) % 5 > 0 for uid in part.uids)
        strongest = images.load(np.arange(len(labels))).float().mean(dim=(2, 3)).argmax(dim=1)
        assert (2 - strongest.numpy()).tolist() == labels.tolist()


def test_the_task_is_over_the_list_of_classes(root: Path) -> None:
    """Labels that it lacks do not count; under ImageNet's classes the labels are the task's."""
    (root / "colours.txt").write_text("green\nпурпурный\nred,crimson\n", encoding="utf-8")
    settings = {"caption_column": "alt", "label_column": "label", "holdout_share": 0.5}
    listed, default = opened(root, classes="colours.txt", **settings), opened(root, **settings)
    assert listed.tasks[0].vocabulary == listed.vocabulary
    assert set(listed.tasks[0].train_labels.tolist()) == {0, 2}
    assert default.tasks[0].vocabulary.names == ("blue", "green", "red")
    assert len(default.vocabulary.names) == 1000
    assert (
        len({listed.fingerprint, default.fingerprint, opened(root, caption_column="alt", holdout_share=0.5).fingerprint}) == 3
    )


def test_labels_that_are_numbers_need_names(root: Path) -> None:
    numbered = [[*row[:3], str(i % 3), row[4]] for i, row in enumerate(rows())]
    write(root / "train.csv", [COLUMNS, *numbered])
    settings = {"caption_column": "alt", "label_column": "label", "holdout_share": 0.5}
    complaint(lambda: opened(root, **settings), "the labels are numbers", "data.classes=FILE")
    bundle = opened(root, classes="red,green,blue", **settings)
    assert all(members == (number(uid) % 3,) for uid, members in zip(bundle.train.uids, bundle.train.members, strict=True))


def test_an_image_of_two_labels_is_named(root: Path) -> None:
    write(root / "train.csv", [COLUMNS, *rows(), ["images/1.png", "again", "again", "blue", "train"]])
    complaint(
        lambda: opened(root, caption_column="alt", label_column="label"), "1 images with several labels", "'blue'", "'green'"
    )
    bundle = opened(root, caption_column="alt", label_column="label", on_error="skip")
    assert bundle.facts["skipped_ambiguous"] == 1
    assert 1 not in {number(uid) for part in parts(bundle) for uid in part.uids}


def test_a_column_of_published_splits(root: Path) -> None:
    bundle = opened(root, caption_column="alt", split_column="split")
    held = [{number(uid) % 5 for uid in part.uids} for part in parts(bundle)]
    assert held == [{2, 3, 4}, {0}, {1}]
    wrong = [[*row[:4], "tarin" if i == 7 else row[4]] for i, row in enumerate(rows())]
    write(root / "train.csv", [COLUMNS, *wrong])
    complaint(lambda: opened(root, caption_column="alt", split_column="split"), "line 9", "'tarin'", "did you mean 'train'")
    write(root / "train.csv", [COLUMNS, *([*row[:4], "train"] for row in rows())])
    complaint(lambda: opened(root, caption_column="alt", split_column="split"), "no usable rows of the split val or test")


def test_published_splits_in_files(root: Path) -> None:
    """One file more gives both held-out parts, two give one each; a file of another folder has its own paths."""
    everything = rows()
    write(root / "train.csv", [COLUMNS, *everything[:18]])
    write(root / "held.csv", [COLUMNS, *everything[18:24]])
    (root / "lists").mkdir()
    write(root / "lists" / "test.csv", [COLUMNS, *([f"../{row[0]}", *row[1:]] for row in everything[24:])])
    one = opened(root, caption_column="alt", val_file="held.csv")
    assert [len(part) for part in parts(one)] == [18, 3, 3]
    two = opened(root, caption_column="alt", val_file="held.csv", test_file="lists/test.csv")
    assert [sorted(number(uid) for uid in part.uids) for part in parts(two)] == [
        [*range(18)], [*range(18, 24)], [*range(24, 30)],
    ]  # fmt: skip
    assert two.test.images.load(np.arange(6)).shape == (6, 3, 16, 16)
    complaint(lambda: opened(root, caption_column="alt", val_file="nowhere.csv"), "nowhere.csv does not exist")
    complaint(lambda: opened(root, val_file="held.csv", split_column="split"), "exclude each other")
    write(root / "held.csv", [COLUMNS, *everything[18:23], ["images/99.png", "x", "y", "", ""]])
    complaint(lambda: opened(root, caption_column="alt", val_file="held.csv"), "line 7 of held.csv", "99.png")


def test_an_image_of_two_published_splits_is_in_one_part(root: Path) -> None:
    for copy, original in (("copy", 2), ("twin", 1)):
        (root / "images" / f"{copy}.png").write_bytes((root / "images" / f"{original}.png").read_bytes())
    more = [["images/copy.png", "x", "in val too", "", "val"], ["images/twin.png", "x", "in val too", "", "val"]]
    write(root / "train.csv", [COLUMNS, *rows(), *more])
    bundle = opened(root, caption_column="alt", split_column="split")
    assert leaks(bundle) == 0
    assert bundle.facts["rows_left_out_for_an_image_in_another_split"] == 2
    assert [len(part) for part in parts(bundle)] == [18, 6, 6]


def test_of_several_caption_columns_one_is_drawn_that_is_not_empty(root: Path) -> None:
    drawn = {}
    for seed in range(6):
        bundle = opened(root, caption_column=("title", "alt"), caption_seed=seed, classes="title,alt")
        taken = {number(uid): text for part in parts(bundle) for uid, text in zip(part.uids, part.captions, strict=True)}
        assert sorted(taken) == [*range(30)]
        assert all(text in ((f"title {i}", f"alt {i}") if i % 4 else (f"alt {i}",)) for i, text in taken.items())
        members = {number(uid): each for part in parts(bundle) for uid, each in zip(part.uids, part.members, strict=True)}
        assert all(each == ((0, 1) if i % 4 else (1,)) for i, each in members.items())
        drawn[bundle.fingerprint] = tuple(sorted(taken.items()))
    assert len(drawn) == len(set(drawn.values())) == 6
    share = np.mean(["title" in text for each in drawn.values() for i, text in each if i % 4])
    assert 0.3 < share < 0.7


def test_one_pair_a_row_or_an_image(root: Path) -> None:
    write(root / "train.csv", [COLUMNS, *([row[0], f"{row[2]} again {n}", *row[2:]] for row in rows() for n in range(5))])
    assert sum(map(len, parts(opened(root)))) == 150
    first, again, other = (opened(root, caption_per="image", caption_seed=seed) for seed in (0, 0, 1))
    assert sum(map(len, parts(first))) == first.facts["images"] == 30
    assert list(first.train.captions) == list(again.train.captions) != list(other.train.captions)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert {text[-1] for text in first.train.captions} == set("01234")


def test_one_row_of_each_image_is_drawn_evenly() -> None:
    image_of = np.array([4, 0, 0, 4, 0, 9])
    found = [splits.one_row_an_image(image_of, np.array([0, 1, 2, 4, 5]), seed).tolist() for seed in range(200)]
    assert {tuple(each) for each in found} == {(0, row, 5) for row in (1, 2, 4)}
    assert min(sum(row in each for each in found) for row in (1, 2, 4)) > 40


def test_flickr30ks_list(root: Path) -> None:
    lines = [f"{i}.png#{n}\t{KINDS[i % 3]} picture , number {i} {n} ." for i in range(30) for n in range(2)]
    (root / "results.token").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bundle = opened(root, file="results.token", images="images", classes=KINDS)
    assert sum(map(len, parts(bundle))) == 60
    for part in parts(bundle):
        assert all(text.startswith(KINDS[number(uid) % 3]) for uid, text in zip(part.uids, part.captions, strict=True))
        assert list(part.members) == [(number(uid) % 3,) for uid in part.uids]
    kaggle = [f"{i}.png| {n}| {KINDS[i % 3]} picture , number {i} {n} ." for i in range(30) for n in range(2)]
    (root / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *kaggle]))
    same = opened(root, file="results.csv", images="images", image_column="image_name", caption_column="comment", classes=KINDS)
    assert sorted(same.train.captions) == sorted(bundle.train.captions)
    complaint(lambda: opened(root, file="results.token", images="nowhere"), "nowhere", "data.images=FOLDER")


def _json(count: int = 30) -> dict[str, Any]:
    names = ("val", "test", "train", "restval", "train")
    return {
        "images": [
            {
                "filepath": "images",
                "filename": f"{i}.png",
                "imgid": i,
                "split": names[i % 5],
                "sentences": [{"tokens": ["a"], "raw": f" {KINDS[i % 3]} {n} of {i}"} for n in range(5)],
            }
            for i in range(count)
        ],
        "dataset": "coco",
    }


def test_karpathys_json(root: Path) -> None:
    (root / "dataset_coco.json").write_text(json.dumps(_json()))
    bundle = karpathy(root, classes=KINDS)
    assert [{number(uid) % 5 for uid in part.uids} for part in parts(bundle)] == [{2, 3, 4}, {0}, {1}]
    assert [len(part) for part in parts(bundle)] == [18, 6, 6]
    for part in parts(bundle):
        for uid, text, members in zip(part.uids, part.captions, part.members, strict=True):
            assert text in {f"{KINDS[number(uid) % 3]} {n} of {number(uid)}" for n in range(5)}
            assert members == (number(uid) % 3,)
    assert list(karpathy(root, caption_seed=1).train.captions) != list(bundle.train.captions)
    assert list(karpathy(root / "dataset_coco.json").train.captions) == list(bundle.train.captions)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image.pop("split"), ("images[7]", "'split' is missing")),
        (lambda image: image.update(split="vall"), ("images[7]", "'vall'", "did you mean 'val'")),
        (lambda image: image.update(filename=5), ("images[7]", "names no image")),
        (lambda image: image.update(filename="gone.png"), ("1 images that do not exist", "images[7]", "gone.png")),
        (lambda image: image.update(sentences=[{"raw": " "}]), ("images[7] has no sentence",)),
        (lambda image: image.update(sentences=[{"raw": 3}]), ("images[7]", "sentences[0]")),
    ],
)
def test_what_is_wrong_in_karpathys_json_is_named(
    root: Path, change: Callable[[dict[str, Any]], object], words: tuple[str, ...]
) -> None:
    made = _json()
    change(made["images"][7])
    (root / "dataset_coco.json").write_text(json.dumps(made))
    complaint(lambda: karpathy(root), *words, "on_error=skip")
    assert sum(map(len, parts(karpathy(root, on_error="skip")))) == 29
    (root / "dataset_coco.json").write_text(json.dumps(made)[:-30])
    complaint(lambda: karpathy(root, on_error="skip"), "not whole JSON")
