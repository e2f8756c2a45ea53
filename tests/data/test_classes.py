"""Classes of one's own, by name, file and list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.data import DataPlace, Vocabulary
from bench.data.classes import CATEGORIES, ClassParams, vocabulary
from bench.data.conceptual import CC3M, CC3MParams
from bench.data.csv_pairs import CsvPairsParams
from bench.data.files import Faults
from bench.data.huggingface import HuggingFaceParams
from bench.data.labels import LabelledMembers, Labels
from bench.data.mentions import MentionIndex
from bench.data.mscoco import MSCOCOParams
from bench.data.visual_genome import VisualGenome, VisualGenomeParams
from bench.data.vocabularies import imagenet
from bench.errors import UserError

from .coco_maker import edit, make_coco, opened
from .conceptual_maker import make_download
from .genome_maker import make_genome


def complaint(*words: str, classes: Any, folder: Path = Path(), categories: Any = None) -> None:
    with pytest.raises(UserError) as caught:
        vocabulary(classes, folder, categories)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_a_list_and_names_between_commas_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\ufeffcat, kitty,tom cat\n\ndog\n", encoding="utf-8")
    expected = Vocabulary(("cat", "dog"), imagenet().templates, (("kitty", "tom cat"), ()))
    assert vocabulary("classes.txt", tmp_path, None) == expected
    assert vocabulary(str(tmp_path / "classes.txt"), Path("elsewhere"), None) == expected
    assert vocabulary((("cat", "kitty", "tom cat"), "dog"), tmp_path, None) == expected
    assert vocabulary("cat, dog", tmp_path, None) == vocabulary(("cat", "dog"), tmp_path, None)
    assert vocabulary(CATEGORIES, tmp_path, ["b", "a"]).names == ("b", "a")
    assert vocabulary("imagenet", tmp_path, ["b", "a"]) == imagenet()


def test_bad_classes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "twice.txt").write_text("cat\ndog\nCat\n")
    (tmp_path / "shared.txt").write_text("cat,pet\ndog,pet\n")
    (tmp_path / "latin.txt").write_bytes("chat\nb\xeate\n".encode("latin-1"))
    complaint("there is no file", "nowhere.txt", "data root", classes="nowhere.txt", folder=tmp_path)
    complaint("'Cat' occurs twice", classes="twice.txt", folder=tmp_path)
    complaint("'pet' occurs twice, for 'cat' and for 'dog'", classes="shared.txt", folder=tmp_path)
    complaint("line 2 is not UTF-8", classes="latin.txt", folder=tmp_path)
    complaint("names 1 classes", classes=("cat",))
    complaint("'!?'", "no letter or digit", classes=("cat", "!?"))
    complaint("no labels were read", "data.label_column", classes=CATEGORIES)
    complaint("the labels are numbers", classes=CATEGORIES, categories=["0", "1"])


@pytest.mark.parametrize("params", [CsvPairsParams, HuggingFaceParams, MSCOCOParams, VisualGenomeParams, CC3MParams])
def test_options_that_were_added_are_in_no_key_at_their_defaults(params: type[ClassParams]) -> None:
    default = params()
    assert params.later <= set(params.model_fields)
    assert set(default.model_dump()) == set(params.model_fields) - params.later
    changed = params(classes=["cat", ["dog", "hound"]])
    assert changed.model_dump(mode="json")["classes"] == ["cat", ["dog", "hound"]]
    assert params.model_validate(changed.model_dump(mode="json")) == changed
    assert params.model_validate(default.model_dump()) == default


@pytest.mark.parametrize(
    ("names", "caption", "expected"),
    [
        (("кошка", "собака"), "Чёрная КОШКА на столе", {"кошка"}),
        (("γάτα", "σκύλος"), "ένας σκύλος, μια γάτα", {"γάτα", "σκύλος"}),
        (("بطة", "قطة"), "قطة على الطاولة", {"قطة"}),
        (("बिल्ली", "बल्ला"), "एक काली बिल्ली", {"बिल्ली"}),
        (("猫", "狗"), "一只猫在沙发上", {"猫"}),
        (("猫", "熊猫"), "一只大熊猫", {"熊猫"}),
        (("猫", "熊猫"), "熊猫和猫", {"猫", "熊猫"}),
        (("ソファ", "猫"), "ソファの上の猫", {"ソファ", "猫"}),
        (("แมว", "สุนัข"), "แมวบนโซฟา", {"แมว"}),
        (("café", "thé"), "un cafe\u0301 noir", {"café"}),
        (("café", "cafe"), "a cafe in town", {"cafe"}),
        (("cat", "дом"), "cats and a cat's house", {"cat"}),
    ],
)  # fmt: skip
def test_names_of_any_script(names: tuple[str, ...], caption: str, expected: set[str]) -> None:
    assert {names[index] for index in MentionIndex(names).members(caption)} == expected


def test_synonyms_are_mentions_of_their_class() -> None:
    index = MentionIndex.of(Vocabulary(("cat", "dog"), ("{}",), (("kitty", "tom cat"), ())))
    assert index.members("a kitty") == index.members("A tom cat") == (0,)
    assert index.members("the dog and a kitty") == (0, 1)


def test_labels_become_classes_by_name_synonym_or_number() -> None:
    own = Vocabulary(("fire truck", "cat"), ("{}",), ((), ("kitty",)))
    labels = Labels.of_texts(["Kitty", "fire-truck", "", "cow", "cat"])
    assert labels.names == ("Kitty", "cat", "cow", "fire-truck")
    assert labels.as_classes(own).tolist() == [1, 0, -1, -1, 1]
    assert Labels.of_texts(["1", "0", "", "1"]).as_classes(own).tolist() == [1, 0, -1, 1]
    with pytest.raises(UserError, match=r"numbers up to 2, and data\.classes names 2"):
        Labels.of_texts(["2", "0"]).as_classes(own)
    members = LabelledMembers(np.array([1, -1, 0]), [(0,), (0,), (0, 1)])
    assert list(members) == [(1, 0), (0,), (0, 1)]


def test_an_image_has_the_label_of_any_of_its_rows_and_one_at_most() -> None:
    labels = Labels.of_texts(["cat", "", "dog", "cat", ""])
    image_of, rows = np.array([0, 0, 2, 2, 4]), np.arange(5)
    own, kept = labels.of_images(image_of, rows, "x has", Faults("skip", ("ambiguous",)))
    assert kept.tolist() == [0, 1, 4]
    assert own.of[kept].tolist() == [0, 0, -1]
    with pytest.raises(UserError, match="x has 1 images with several labels, the first with 'cat' and 'dog'"):
        labels.of_images(image_of, rows, "x has", Faults("error", ("ambiguous",)))


def _with_small_fruit(table: dict[str, Any]) -> None:
    goldfish = [row for row in table["annotations"] if row["category_id"] == 1 and not row["iscrowd"]]
    table["annotations"] += [{**row, "category_id": 4, "area": 1.0} for row in goldfish]


def test_coco_by_its_categories_and_by_a_list(tmp_path: Path) -> None:
    """Of `make_coco` the goldfish is of the category fish, the others of fruit."""
    root = make_coco(tmp_path)
    for split in ("train", "val"):  # a fruit beside each goldfish, and much smaller
        edit(root, f"instances_{split}2017.json", _with_small_fruit)
    plain = opened(root)
    own = opened(root, classes=CATEGORIES)
    assert own.vocabulary.names == ("fish", "fruit")
    assert [members[0] for members in own.train.members[:3]] == [0, 1, 1]
    assert own.tasks[0].vocabulary.names == plain.tasks[0].vocabulary.names
    assert own.tasks[0].test_labels.tolist() == plain.tasks[0].test_labels.tolist()
    assert list(own.train.captions) == list(plain.train.captions)
    listed = opened(root, classes=(("sea creature", "fish"), "fruit", "lemon", "banana"))
    assert listed.tasks[0].vocabulary == listed.vocabulary
    assert sorted({*listed.tasks[0].train_labels.tolist()}) == [0, 1]
    assert opened(root, classes=("cow", "fruit")).tasks == ()
    assert {name for members in listed.train.members for name in (listed.vocabulary.names[each] for each in members)} == {
        "sea creature", "fruit", "lemon", "banana",
    }  # fmt: skip
    assert len({plain.fingerprint, own.fingerprint, listed.fingerprint}) == 3


def test_downloads_take_classes_too(tmp_path: Path) -> None:
    root = make_download(tmp_path / "cc", tars=True)
    bundle = CC3M().open(CC3MParams(classes=("lemon", "très bon")), 16, DataPlace(root, None))
    assert bundle.vocabulary.names == ("lemon", "très bon")
    assert all(1 in members for members in bundle.train.members)
    assert set(bundle.train.members) == {(1,), (0, 1)}
    assert bundle.fingerprint != CC3M().open(CC3MParams(), 16, DataPlace(root, None)).fingerprint


def test_visual_genome_takes_classes_too(tmp_path: Path) -> None:
    root = tmp_path / "vg"
    make_genome(root)
    words = ("a", "zebra crossing")
    bundle = VisualGenome().open(VisualGenomeParams(classes=words), 16, DataPlace(root, None))
    assert bundle.vocabulary.names == words
    assert any(members == (0,) for members in bundle.train.members)
    assert bundle.fingerprint != VisualGenome().open(VisualGenomeParams(), 16, DataPlace(root, None)).fingerprint
