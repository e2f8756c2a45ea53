from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import files
from bench.data.downstream import NAMES, NOT_FOUND, SAME_NAME, SmallImages, facts, open_sets
from bench.errors import UserError

from . import downstream_maker as maker

SIDE = 8
REFERENCE = {
    "cifar10": (10, 50_000, 10_000),
    "cifar100": (100, 50_000, 10_000),
    "food101": (101, 75_750, 25_250),
    "dtd": (47, 3_760, 1_880),
    "fgvc_aircraft": (100, 6_667, 3_333),
    "flowers102": (102, 2_040, 6_149),
    "caltech101": (102, 3_060, 6_084),
    "oxford_iiit_pet": (37, 3_680, 3_669),
    "stanford_cars": (196, 8_144, 8_041),
    "imagenet": (1_000, 50_000, 50_000),
}


def test_the_sets_are_those_of_the_table() -> None:
    found = {name: (fact["classes"], fact["train"], fact["test"]) for name, fact in facts().items()}
    assert found == REFERENCE
    assert list(NAMES) == list(REFERENCE)
    assert all(template.count("{}") == 1 for fact in facts().values() for template in fact.get("templates", ()))


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_what_was_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker.make(tmp_path, [name], monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(files, "decode", None)
        patch.setattr(Image, "open", None)
        found = open_sets(tmp_path, SIDE)
    (task,) = found.tasks
    assert task.name == name
    assert len(task.vocabulary.names) == maker.count(name) == len(set(task.vocabulary.names)) + 2 * (name == "imagenet")
    assert task.mean_per_class == (name in {"fgvc_aircraft", "flowers102", "caltech101", "oxford_iiit_pet"})
    assert set(found.skipped) == set(NAMES) - {name}
    assert "where the full set has" in found.partial[name]
    for part, images, labels in (
        (maker.TRAIN, task.train_images, task.train_labels),
        (maker.TEST, task.test_images, task.test_labels),
    ):
        assert labels.dtype == np.int64
        assert len(labels) == len(images)
        assert set(labels.tolist()) == set(range(maker.count(name)))
        pixels = images.load(np.arange(len(labels))).double().mean(dim=(2, 3)).numpy()
        painted = maker.TRAIN if name == "caltech101" else part
        assert np.abs(pixels - maker.painted(name, labels, painted)).max() < 6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("food101", ["apple pie 000", "apple pie 001"]),
        ("fgvc_aircraft", ["F-16A/B", "Cessna 172"]),
        ("oxford_iiit_pet", ["big dog 00", "Cat 01"]),
        ("stanford_cars", ["Make C/V Coupe 1900", "Make C/V Coupe 1901"]),
        ("caltech101", ["background", "centered face", "leopard", "sea horse", "thing 000"]),
    ],
)
def test_class_names(name: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = open_sets(maker.make(tmp_path, [name], monkeypatch), SIDE).tasks
    assert list(task.vocabulary.names[: len(expected)]) == expected


def test_names_and_prompts_of_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = open_sets(maker.make(tmp_path, ["flowers102"], monkeypatch), SIDE).tasks
    assert [task.vocabulary.names[k] for k in (0, 15, 59, 92)] == [
        "pink primrose",
        "globe flower",
        "pink and yellow dahlia",
        "air plant",
    ]
    assert task.vocabulary.prompts()[0] == ["a photo of a pink primrose, a type of flower."]


def test_the_split_of_caltech_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (maker.make(tmp_path / each, ["caltech101"], monkeypatch) for each in ("one", "two"))
    first, second = open_sets(one, SIDE), open_sets(two, SIDE)
    assert first.fingerprints == second.fingerprints
    labels = first.tasks[0].train_labels, first.tasks[0].test_labels
    assert np.array_equal(np.bincount(labels[0]), np.full(102, 30))
    assert np.array_equal(np.bincount(labels[1]), np.full(102, 2))


def test_imagenet_training_images_are_reproducible_and_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import labelled

    names = [f"n01440764_{number}.JPEG" for number in range(1300)]
    drawn = labelled._draw("n01440764", names, labelled.IMAGENET_TRAIN)
    assert len(set(drawn)) == 50
    assert drawn == labelled._draw("n01440764", names[::-1], labelled.IMAGENET_TRAIN)
    assert set(labelled._draw("n01440764", names, 20)) < set(drawn)
    fewer = [each for each in names if each in drawn or each.endswith("7.JPEG")]
    assert labelled._draw("n01440764", fewer, labelled.IMAGENET_TRAIN) == drawn
    assert labelled._draw("n01443537", names, labelled.IMAGENET_TRAIN) != drawn


def test_missing_sets_are_skipped_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker.make(tmp_path, ["dtd", "oxford_iiit_pet"], monkeypatch)
    found = open_sets(tmp_path, SIDE, taken=["dtd"])
    assert [task.name for task in found.tasks] == ["oxford_iiit_pet"] == list(found.fingerprints)
    assert found.skipped.pop("dtd") == SAME_NAME
    assert set(found.skipped.values()) == {NOT_FOUND}
    assert json.loads(json.dumps(found.record()))["skipped"] == found.skipped


@pytest.mark.parametrize(("there", "said"), [(False, "is not a folder"), (True, "contains no set")])
def test_a_folder_without_sets(there: bool, said: str, tmp_path: Path) -> None:
    root = tmp_path / "sets"
    if there:
        root.mkdir()
    with pytest.raises(UserError, match=said):
        open_sets(root, SIDE)


def _open_and_load(root: Path) -> None:
    (task,) = open_sets(root, SIDE).tasks
    for images in (task.train_images, task.test_images):
        images.load(np.arange(len(images)))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "file", "named"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3", "data_batch_3"),
        ("cifar10", "cifar-10-batches-py/batches.meta", "batches.meta"),
        ("cifar100", "cifar-100-python/test", "cifar-100-python/test"),
        ("food101", "food-101/meta/test.json", "food101"),
        ("food101", "food-101/images/apple_pie_003/3train.jpg", "3train.jpg"),
        ("dtd", "dtd/dtd/labels/val1.txt", "dtd"),
        ("dtd", "dtd/dtd/images/polka-dotted_000/test.jpg", "polka-dotted_000/test.jpg"),
        ("fgvc_aircraft", "fgvc-aircraft-2013b/data/variants.txt", "fgvc_aircraft"),
        ("flowers102", "flowers-102/setid.mat", "setid.mat"),
        ("flowers102", "flowers-102/jpg/image_00007.jpg", "image_00007.jpg"),
        ("oxford_iiit_pet", "oxford-iiit-pet/annotations/trainval.txt", "oxford_iiit_pet"),
        ("stanford_cars", "stanford_cars/cars_test_annos_withlabels.mat", "stanford_cars"),
        ("stanford_cars", "stanford_cars/devkit/cars_meta.mat", "stanford_cars"),
    ],
)
@pytest.mark.parametrize("harm", ["missing", "truncated"])
def test_a_damaged_set_is_an_error_that_names_it(
    name: str, file: str, named: str, harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = maker.make(tmp_path, [name], monkeypatch) / name / file
    path.unlink() if harm == "missing" else _cut(path)
    with pytest.raises(UserError) as told:
        _open_and_load(tmp_path)
    assert named in str(told.value)
    assert "move the set's folder elsewhere" in str(told.value)
    assert "on_error" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("caltech101", "caltech101/101_ObjectCategories/Leopards"), ("imagenet", "val/n01440764"), ("imagenet", "train")],
)
def test_a_folder_of_a_class_that_is_missing(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(maker.make(tmp_path, [name], monkeypatch) / name / folder)
    with pytest.raises(UserError, match=rf"{name}.*move the set's folder elsewhere"):
        open_sets(tmp_path, SIDE)


def test_an_empty_image_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = maker.make(tmp_path, ["dtd"], monkeypatch) / "dtd/dtd/dtd/images/polka-dotted_000/val.jpg"
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"val\.jpg is empty"):
        open_sets(tmp_path, SIDE)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_macos_are_not_images_or_classes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = maker.make(tmp_path, [name], monkeypatch)
    before = open_sets(root, SIDE).fingerprints
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for companion in ("._image_0001.jpg", ".DS_Store", f"._{folder.name}"):
            (folder / companion).write_bytes(b"\0\5\x16\7Mac OS X")
        for companion in ("__MACOSX", ".fseventsd"):
            (folder / companion).mkdir()
            (folder / companion / "._image_0001.jpg").write_bytes(b"\0\5\x16\7")
    assert open_sets(root, SIDE).fingerprints == before
    _open_and_load(root)


def test_a_folder_or_a_link_instead_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = maker.make(tmp_path, ["caltech101"], monkeypatch) / "caltech101/caltech101/101_ObjectCategories/Leopards"
    (folder / "image_0099.jpg").mkdir()
    with pytest.raises(UserError, match=r"Leopards/image_0099\.jpg is not a regular file: restore it"):
        open_sets(tmp_path, SIDE)
    (folder / "image_0099.jpg").rmdir()
    (folder / "image_0099.jpg").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"Leopards/image_0099\.jpg cannot be read"):
        open_sets(tmp_path, SIDE)


def test_the_fingerprint_depends_on_the_content_not_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [maker.make(tmp_path / name, ["food101"], monkeypatch) for name in ("one", "two/deeper")]
    first, second = (open_sets(root, SIDE).fingerprints["food101"] for root in roots)
    assert first == second
    Image.new("RGB", (64, 64)).save(roots[0] / "food101/food-101/images/apple_pie_000/0test.jpg")
    assert open_sets(roots[0], SIDE).fingerprints["food101"] != first
    monkeypatch.setitem(facts()["food101"], "templates", ["{}"])
    assert open_sets(roots[1], SIDE).fingerprints["food101"] != first


def test_all_sets_share_one_memory_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker.make(tmp_path, ["dtd", "oxford_iiit_pet"], monkeypatch)
    found = open_sets(tmp_path, SIDE, budget=3 * SIDE**2 * (3 * 47 + 40))
    assert [len(images) for images in found.kept] == [94, 47, 37]
    assert sum(images._kept is not None for task in found.tasks for images in (task.train_images, task.test_images)) == 3  # type: ignore[attr-defined]
    assert open_sets(tmp_path, SIDE, budget=0).kept == ()


def test_small_images_at_another_size() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    same = SmallImages(pixels, 32).load(np.array([2, 0]))
    assert np.array_equal(same.permute(0, 2, 3, 1).numpy(), pixels[[2, 0]])
    larger = SmallImages(pixels, 48).load(np.array([1]))
    expected = Image.fromarray(pixels[1]).resize((48, 48), Image.Resampling.BICUBIC)
    assert np.abs(larger[0].permute(1, 2, 0).numpy() - np.asarray(expected, dtype=int)).max() <= 1
