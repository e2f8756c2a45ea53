"""Makes the ten downstream sets in the layouts of their publishers, with few and small images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from bench.data.downstream import facts

from .torchvision_maker import pickled

TRAIN, TEST = "train", "test"


def count(name: str) -> int:
    return int(facts()[name]["classes"])


def colour(name: str, label: int, part: str) -> tuple[int, int, int]:
    """The colour of the images of a class, unique within the set."""
    return label % 16 * 16, label // 16 % 16 * 16, 200 if part == TEST else label // 256 * 20


def paint(path: Path, name: str, label: int, part: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour(name, label, part)).save(path, quality=95)


def class_names(name: str) -> list[str]:
    """Class names as in the files, in label order."""
    return sorted({"dtd": "polka-dotted", "food101": "apple_pie"}.get(name, "class_x") + f"_{k:03}" for k in range(count(name)))


def make_cifar(root: Path, patch: pytest.MonkeyPatch, name: str = "cifar10") -> None:
    kind, labels_key = (datasets.CIFAR10, "labels") if name == "cifar10" else (datasets.CIFAR100, "fine_labels")
    folder = root / name / kind.base_folder
    folder.mkdir(parents=True)
    sums = {}

    def write(file: str, content: object) -> None:
        (folder / file).write_bytes(pickled(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()

    for file, _ in [*kind.train_list, *kind.test_list]:
        labels = [label % count(name) for label in range(count(name))][::-1]
        part = TEST if file.startswith("test") else TRAIN
        pixels = np.array([np.full((32, 32, 3), colour(name, label, part), dtype=np.uint8) for label in labels])
        write(file, {"data": pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1), labels_key: labels})
    write(kind.meta["filename"], {kind.meta["key"]: class_names(name)})
    for each in ("train_list", "test_list"):
        patch.setattr(kind, each, [[file, sums[file]] for file, _ in getattr(kind, each)])
    patch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})


def make_food(root: Path, patch: pytest.MonkeyPatch) -> None:
    base = root / "food101" / "food-101"
    for part in (TRAIN, TEST):
        listed = {}
        for label, raw in reversed(list(enumerate(class_names("food101")))):
            listed[raw] = [f"{raw}/{label}{part}"]
            paint(base / "images" / raw / f"{label}{part}.jpg", "food101", label, part)
        (base / "meta").mkdir(exist_ok=True)
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))


def make_dtd(root: Path, patch: pytest.MonkeyPatch) -> None:
    base = root / "dtd" / "dtd" / "dtd"
    for split in ("train", "val", "test"):
        lines = []
        for label, raw in enumerate(class_names("dtd")):
            paint(base / "images" / raw / f"{split}.jpg", "dtd", label, TEST if split == "test" else TRAIN)
            lines.append(f"{raw}/{split}.jpg\n")
        (base / "labels").mkdir(exist_ok=True)
        (base / "labels" / f"{split}1.txt").write_text("".join(lines))


def make_aircraft(root: Path, patch: pytest.MonkeyPatch) -> None:
    base = root / "fgvc_aircraft" / "fgvc-aircraft-2013b" / "data"
    names = ["F-16A/B", "Cessna 172", *(f"A{k}" for k in range(2, count("fgvc_aircraft")))]
    for part, split in ((TRAIN, "trainval"), (TEST, "test")):
        lines = []
        for label, raw in enumerate(names):
            paint(base / "images" / f"{part}{label:04}.jpg", "fgvc_aircraft", label, part)
            lines.append(f"{part}{label:04} {raw}\n")
        (base / f"images_variant_{split}.txt").write_text("".join(lines))
    (base / "variants.txt").write_text("".join(f"{raw}\n" for raw in names))


def make_flowers(root: Path, patch: pytest.MonkeyPatch) -> None:
    base, classes = root / "flowers102" / "flowers-102", count("flowers102")
    base.mkdir(parents=True)
    labels = [label for _ in range(3) for label in range(classes)]
    for row, label in enumerate(labels):
        paint(base / "jpg" / f"image_{row + 1:05}.jpg", "flowers102", label, TEST if row >= 2 * classes else TRAIN)
    ids = np.arange(1, 3 * classes + 1).reshape(3, classes)
    savemat(base / "imagelabels.mat", {"labels": np.array(labels) + 1})
    savemat(base / "setid.mat", {"trnid": ids[0], "valid": ids[1], "tstid": ids[2]})
    sums = {
        part: (file, hashlib.md5((base / file).read_bytes()).hexdigest())
        for part, file in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    patch.setattr(datasets.Flowers102, "_file_dict", {**datasets.Flowers102._file_dict, **sums})


def make_pets(root: Path, patch: pytest.MonkeyPatch) -> None:
    base = root / "oxford_iiit_pet" / "oxford-iiit-pet"
    for part, split in ((TRAIN, "trainval"), (TEST, "test")):
        lines = []
        for label in range(count("oxford_iiit_pet")):
            image = f"{'Cat' if label % 2 else 'big_dog'}_{label:02}_{7 if part == TEST else 3}"
            paint(base / "images" / f"{image}.jpg", "oxford_iiit_pet", label, part)
            lines.append(f"{image} {label + 1} {label % 2 + 1} 1\n")
        (base / "annotations").mkdir(exist_ok=True)
        (base / "annotations" / f"{split}.txt").write_text("".join(lines))


def make_cars(root: Path, patch: pytest.MonkeyPatch) -> None:
    base = root / "stanford_cars" / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    kind = [("fname", "O"), ("class", "O")]
    for part, file in ((TRAIN, "devkit/cars_train_annos.mat"), (TEST, "cars_test_annos_withlabels.mat")):
        rows = []
        for label in range(count("stanford_cars")):
            paint(base / f"cars_{part}" / f"{label:05}.jpg", "stanford_cars", label, part)
            rows.append((f"{label:05}.jpg", np.uint8(label + 1)))
        savemat(base / file, {"annotations": np.array([rows], dtype=kind)})
    names = np.array([[f"Make C/V Coupe {1900 + label}" for label in range(count("stanford_cars"))]], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})


CALTECH = ("BACKGROUND_Google", "Faces_easy", "Leopards", "sea_horse", "yin_yang")


def make_caltech(root: Path, patch: pytest.MonkeyPatch, images: int = 32) -> None:
    base = root / "caltech101" / "caltech101" / "101_ObjectCategories"
    names = sorted([*CALTECH, *(f"thing_{k:03}" for k in range(count("caltech101") - len(CALTECH)))])
    (base / CALTECH[0]).mkdir(parents=True)
    (base / CALTECH[0] / "tmp").write_text("as published")
    for label, raw in enumerate(names):
        for number in range(images):
            paint(base / raw / f"image_{number + 1:04}.jpg", "caltech101", label, TRAIN)


def make_imagenet(root: Path, patch: pytest.MonkeyPatch) -> None:
    from timm.data import ImageNetInfo

    for label, synset in enumerate(ImageNetInfo("imagenet1k").label_names()):
        for part, folder in ((TRAIN, "train"), (TEST, "val")):
            paint(root / "imagenet" / folder / synset / f"{part}_{label}.JPEG", "imagenet", label, part)
    (root / "imagenet" / "train" / "n99999999").mkdir()


Maker = Callable[[Path, pytest.MonkeyPatch], None]
MAKERS: dict[str, Maker] = {
    "cifar10": make_cifar,
    "cifar100": lambda root, patch: make_cifar(root, patch, "cifar100"),
    "food101": make_food,
    "dtd": make_dtd,
    "fgvc_aircraft": make_aircraft,
    "flowers102": make_flowers,
    "caltech101": make_caltech,
    "oxford_iiit_pet": make_pets,
    "stanford_cars": make_cars,
    "imagenet": make_imagenet,
}


def make(root: Path, names: Iterable[str], patch: pytest.MonkeyPatch) -> Path:
    for name in names:
        MAKERS[name](root, patch)
    return root


def painted(name: str, labels: NDArray[np.int64], part: str) -> NDArray[np.float64]:
    return np.array([colour(name, int(label), part) for label in labels], dtype=np.float64)
