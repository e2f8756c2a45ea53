import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as Reference

import bench.data.imagefolder  # noqa: F401, registers it
from bench.api.data import DataPlace, DatasetBundle, Findings
from bench.data.decoding import decode
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError
from bench.registry import datasets

CLASSES = ("cat", "hot_dog", "ring-tailed_lemur")


def opened(root: Path | None, findings: Findings | None = None, cache: Path | None = None, **params: Any) -> DatasetBundle:
    plugin = datasets["imagefolder"].plugin
    return plugin().open(plugin.Params(**params), 16, DataPlace(root, cache, findings))


def draw(file: Path, shade: int) -> None:
    """A picture of its own for each shade."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (shade % 251, shade // 251, 7)).save(file)


def folders(root: Path, splits: Sequence[str] = ("train", "test"), count: int = 8, classes: Sequence[str] = CLASSES) -> Path:
    shade = 0
    for split in splits:
        for name in classes:
            for row in range(count):
                draw(root / split / name / f"{row}.png", shade := shade + 1)
    return root


def uids(bundle: DatasetBundle) -> list[str]:
    return [uid for part in (bundle.train, bundle.holdout, bundle.test) for uid in part.uids]


def said(bundle: DatasetBundle) -> list[tuple[str, str]]:
    parts = (bundle.train, bundle.holdout, bundle.test)
    return sorted((uid, caption) for part in parts for uid, caption in zip(part.uids, part.captions, strict=True))


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_images_and_labels_are_those_of_torchvision(tmp_path: Path, test: str) -> None:
    root = folders(tmp_path, ("train", test))
    draw(root / "train" / "cat" / "deeper" / "z.JPEG", 240)
    bundle = opened(root)
    for part, reference in (("train", Reference(root / "train")), (test, Reference(root / test))):
        expected = {os.path.relpath(path, root): label for path, label in reference.samples}
        mine = [bundle.train] if part == "train" else [bundle.holdout, bundle.test]
        found = {uid: label for pairs in mine for uid, (label,) in zip(pairs.uids, pairs.members, strict=True)}
        assert found == expected
        for pairs in mine:
            pixels = pairs.images.load(np.arange(len(pairs))).numpy()
            assert all(np.array_equal(image, decode(root / uid, 16)) for uid, image in zip(pairs.uids, pixels, strict=True))
    assert (len(bundle.holdout), len(bundle.test)) == (12, 12)
    assert bundle.vocabulary.names == ("cat", "hot dog", "ring tailed lemur")
    (task,) = bundle.tasks
    assert task.vocabulary == bundle.vocabulary
    assert [(label,) for label in task.train_labels.tolist()] == list(bundle.train.members)
    assert [(label,) for label in task.test_labels.tolist()] == list(bundle.test.members)
    assert bundle.facts["test_images"] == test


@pytest.mark.parametrize("below", ["", "train"])
def test_without_test_folders_copies_of_an_image_are_in_one_split(tmp_path: Path, below: str) -> None:
    root = folders(tmp_path, (below,), count=20)
    for row in range(20):
        shutil.copy(root / below / "cat" / f"{row}.png", root / below / "cat" / f"copy of {row}.png")
    bundle = opened(root, holdout_share=0.5)
    assert (len(bundle.train), len(bundle.holdout), len(bundle.test)) == (30, 15, 15)
    assert len({(root / uid).read_bytes() for uid in uids(bundle)}) == len(uids(bundle)) == 60
    assert bundle.facts["skipped_duplicate"] == 20
    assert opened(root, holdout_share=0.5, split_seed=1).train.uids != bundle.train.uids


def test_training_images_are_not_test_images(tmp_path: Path) -> None:
    root = folders(tmp_path)
    shutil.copy(root / "train" / "cat" / "3.png", root / "test" / "cat" / "a.png")
    bundle, findings = opened(root), Findings()
    assert "test/cat/a.png" not in uids(bundle)
    assert "train/cat/3.png" in bundle.train.uids
    opened(root, findings)
    assert findings.counts == {"duplicate": 1}
    assert f"{root}/test/cat/a.png is identical to {root}/train/cat/3.png" in findings.first["duplicate"]


def test_files_with_equal_beginnings_are_not_duplicates(tmp_path: Path) -> None:
    root = folders(tmp_path)
    long = np.zeros((200, 200, 3), dtype=np.uint8)
    for number, name in enumerate(("x", "y", "z")):
        long[0, -1] = min(number, 1)  # the last pixels of the file
        Image.fromarray(long).save(root / "train" / "cat" / f"{name}.bmp")
    kept = [uid for uid in uids(opened(root)) if uid.endswith("bmp")]
    assert kept == ["train/cat/x.bmp", "train/cat/y.bmp"]


def test_one_image_in_two_classes(tmp_path: Path) -> None:
    root = folders(tmp_path)
    shutil.copy(root / "train" / "cat" / "3.png", root / "test" / "hot_dog" / "a.png")
    with pytest.raises(UserError, match=r"test/hot_dog/a\.png .*train/cat/3\.png"):
        opened(root)
    bundle = opened(root, on_error="skip")
    assert not {"train/cat/3.png", "test/hot_dog/a.png"} & set(uids(bundle))
    assert bundle.facts["skipped_ambiguous"] == 2


def test_files_that_are_not_images_are_counted_and_named(tmp_path: Path) -> None:
    root = folders(tmp_path)
    clean = opened(root)
    (root / "train" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (root / "test" / ".DS_Store").write_bytes(b"\0")
    (root / "train" / "cat" / ".ipynb_checkpoints").mkdir()
    draw(root / "train" / "__MACOSX" / "cat" / "1.png", 200)
    (root / "train" / "hot_dog" / "notes.txt").write_text("")
    (root / "train" / "hot_dog" / "labels.csv").write_text("")
    findings = Findings()
    bundle = opened(root, findings)
    assert not findings.counts
    assert said(bundle) == said(clean)
    assert bundle.fingerprint == clean.fingerprint
    assert bundle.facts["hidden_files"] == "4, the first train/__MACOSX"
    assert bundle.facts["other_files"] == "2, the first train/hot_dog/labels.csv"


def test_broken_links_damaged_images_and_empty_folders(tmp_path: Path) -> None:
    root = folders(tmp_path / "data")
    (root / "train" / "cat" / "1.png").unlink()
    (root / "train" / "cat" / "1.png").symlink_to("nowhere.png")
    (root / "train" / "cat" / "2.png").write_bytes(b"")
    (root / "test" / "cat" / "2.png").write_bytes(b"no image")
    (root / "train" / "zebra").mkdir()
    draw(root / "test" / "yak" / "1.png", 230)
    shutil.rmtree(root / "test" / "hot_dog")
    (root / "train" / "cat" / "self").symlink_to(root / "train" / "cat", target_is_directory=True)
    mends = {
        "train/cat/1.png": lambda broken: (broken.unlink(), os.rename(root / "train" / "cat" / "7.png", broken)),
        "train/cat/2.png": lambda broken: os.rename(root / "train" / "cat" / "6.png", broken),
        "train/zebra": lambda broken: broken.rmdir(),
        "test/yak": lambda broken: shutil.rmtree(broken),
        "lacks the class hot_dog": lambda broken: None,
    }
    for name, mend in mends.items():
        with pytest.raises(UserError, match=name) as caught:
            opened(root)
        assert "\n" not in str(caught.value)
        mend(root / name)
    bundle = opened(root, on_error="skip", cache=tmp_path)
    assert bundle.vocabulary.names == ("cat", "hot dog", "ring tailed lemur")
    assert "test/cat/2.png" not in uids(bundle)
    counts = {kind: bundle.facts[f"skipped_{kind}"] for kind in ("missing", "unreadable", "empty", "unknown")}
    assert counts == {"missing": 0, "unreadable": 1, "empty": 1, "unknown": 0}


def test_verify_reports_all_problems(tmp_path: Path) -> None:
    root = folders(tmp_path)
    for row in (1, 2):
        (root / "train" / "cat" / f"{row}.png").unlink()
        (root / "train" / "cat" / f"{row}.png").symlink_to("nowhere.png")
    (root / "train" / "zebra").mkdir()
    draw(root / "test" / "yak" / "1.png", 230)
    (root / "test" / "cat" / "5.png").write_bytes(b"")
    findings = Findings()
    opened(root, findings)
    assert findings.counts == {"missing": 2, "empty": 1, "unknown": 1, "unreadable": 1}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "not a folder"),
        (lambda root: root.mkdir(), "has 0 class folders with images"),
        (lambda root: folders(root / "photos"), "has 1 class folders"),
        (lambda root: folders(root, ("test", "val")), "no train/"),
        (lambda root: [folders(root, ("train",)), draw(root / "val" / "images" / "1.png", 99)], "none of the class folders"),
        (lambda root: folders(root, classes=("hot_dog", "hot-dog")), "have one name, 'hot dog'"),
        (lambda root: folders(root, classes=("cat", "n00000001")), "n00000001.*data.names=FILE"),
        (lambda root: folders(root, classes=("cat", "---")), "gives no name"),
        (lambda root: folders(root, count=1, classes=("a1", "b1"), splits=("",)), "too few to split"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(UserError, match=words) as caught:
        opened(tmp_path / "data", holdout_share=0.9)
    assert "\n" not in str(caught.value)


def test_a_root_is_needed() -> None:
    with pytest.raises(UserError, match="--data-root"):
        opened(None)


def test_wordnet_ids_are_named_as_in_imagenet(tmp_path: Path) -> None:
    names = opened(folders(tmp_path, classes=("n01440764", "n02123159", "n02085620-Chihuahua"))).vocabulary.names
    assert names == (imagenet().names[0], "Chihuahua", imagenet().names[282]) == ("tench", "Chihuahua", "tiger cat")


def test_names_of_a_file(tmp_path: Path) -> None:
    root = folders(tmp_path, ("",), classes=("n00000001", "00012", "sign"))
    (root / "names.txt").write_text("n00000001\tgoldfish, Carassius auratus\nn09999999\tunicorn\n00012,priority road\n")
    bundle = opened(root, names="names.txt")
    assert bundle.vocabulary.names == ("priority road", "goldfish", "sign")
    assert "other_files" not in bundle.facts
    (root / "names.txt").write_text("n00000001,goldfish\nsing,stop sign\n")
    with pytest.raises(UserError, match=r"line 2: there is no class folder 'sing'; did you mean 'sign'"):
        opened(root, names="names.txt")
    (root / "names.txt").write_text("00012,\n")
    with pytest.raises(UserError, match="line 1: '00012' has no name"):
        opened(root, names="names.txt")
    with pytest.raises(UserError, match=r"gone\.txt cannot be read"):
        opened(root, names="gone.txt")


def test_synonyms_are_used_for_a_quarter_of_their_class(tmp_path: Path) -> None:
    root = folders(tmp_path, count=200, classes=("cat", "hot_dog"))
    (root / "words.txt").write_text("\ufeffCat\ttom cat, kitty\n\nhot_dog\n")
    bundle = opened(root, synonyms="words.txt")
    index = MentionIndex(("cat", "kitty", "tom cat", "hot dog"))
    spoken = [index.members(caption) for caption in bundle.train.captions]
    assert set(spoken) == {(0,), (1,), (0, 2), (3,)}
    assert spoken.count((3,)) == 200
    assert 30 < spoken.count((1,)) + spoken.count((0, 2)) < 70
    assert bundle.fingerprint != opened(root).fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog,hound\n", "line 1: no class is called 'dog'; did you mean 'hot dog'"),
        ("cat,kitty\nhot dog,frank,cat food\n", "line 2: 'cat food' mentions the class 'cat'"),
        ("cat,pet\nhot dog,Pet\n", "line 2: 'Pet' mentions the class 'cat'"),
    ],
)
def test_ambiguous_synonyms(tmp_path: Path, text: str, words: str) -> None:
    root = folders(tmp_path, count=2, classes=("cat", "hot_dog"))
    (root / "words.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        opened(root, synonyms="words.txt")


def test_seeds_and_what_the_fingerprint_depends_on(tmp_path: Path) -> None:
    root = folders(tmp_path / "one")
    first = opened(root)
    moved = shutil.copytree(root, tmp_path / "two" / "deeper")
    assert (opened(moved).fingerprint, said(opened(moved))) == (first.fingerprint, said(first))
    others = [opened(root, caption_seed=1), opened(root, split_seed=1), opened(root, on_error="skip")]
    draw(moved / "train" / "cat" / "0.png", 250)
    others.append(opened(moved))
    os.rename(root / "train" / "cat" / "0.png", root / "train" / "cat" / "00.png")
    others.append(opened(root))
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert list(others[0].train.captions) != list(first.train.captions)
    assert set(said(others[4])) - set(said(first)) == {("train/cat/00.png", dict(said(others[4]))["train/cat/00.png"])}


def test_captions_are_varied_and_only_name_their_class(tmp_path: Path) -> None:
    """Also where words of the captions are names of classes."""
    root = folders(tmp_path, ("",), count=300, classes=("cat", "photo", "great cat", "one"))
    bundle = opened(root)
    index = MentionIndex(bundle.vocabulary.names)
    captions = list(bundle.train.captions)
    for caption, (label,) in zip(captions, bundle.train.members, strict=True):
        assert index.members(caption) == index.members(bundle.vocabulary.names[label])
    assert len(set(captions)) > 0.7 * len(captions)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = folders(tmp_path)
    draw(root / "train" / "cat" / "x.png", 90)
    try:
        os.rename(root / "train" / "cat" / "x.png", os.path.join(os.fsencode(root / "train" / "cat"), b"\xff.png"))
        os.rename(root / "train" / "hot_dog", os.path.join(os.fsencode(root / "train"), b"hot\xffdog"))
        os.rename(root / "test" / "hot_dog", os.path.join(os.fsencode(root / "test"), b"hot\xffdog"))
    except OSError:
        pytest.skip("this file system has no such names")
    bundle = opened(root)
    assert "train/cat/\\xff.png" in bundle.train.uids
    " ".join([*uids(bundle), *bundle.train.captions, *bundle.vocabulary.names]).encode()
