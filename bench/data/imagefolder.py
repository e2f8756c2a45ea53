"""Labelled images in one folder for each class, as in torchvision's ImageFolder, with captions made from class names."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Vocabulary
from bench.api.plugin import Params as PluginParams
from bench.data import class_folders, duplicates
from bench.data.class_folders import Ignored, ImageFile
from bench.data.class_names import class_names, class_synonyms
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, readable
from bench.data.labelled_pairs import Part, labelled_bundle
from bench.data.varied_captions import TEMPLATES, VariedCaptions
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"imagefolder 1, {PIXELS}"
_EXPECTED = "the folder that contains train/CLASS/ and test/CLASS/, or CLASS/"
_KINDS = ("missing", "unreadable", "empty", "unknown", "ambiguous")


class ImageFolderParams(PluginParams):
    names: str = Field(default="", description="file in the data root with lines FOLDER,NAME, for other class names")
    synonyms: str = Field(default="", description="file in the data root with lines NAME,SYNONYM,..., for captions")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="share of the images held out if there is no test folder")
    caption_seed: int = Field(default=0, ge=0, description="seed for the words of each caption")
    split_seed: int = Field(default=0, ge=0, description="seed for the held-out images and the adversary's half of them")
    on_error: OnError = Field(default="error", description="skip drops damaged and missing images and empty folders")


@register_dataset("imagefolder")
class ImageFolder(Dataset):
    """Labelled images in one folder for each class (torchvision's ImageFolder), with varied captions around the class name.

    train: the folder train/. holdout and test: two random halves of test/ (or val/, valid/, validation/) or, without such a
    folder, of a random share of all images. Of images with the same bytes only the first is used; in two classes they are an
    error. Task `classes`: at most 20,000 training images, tested on the test half.
    """

    Params = ImageFolderParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/train/CLASS/ and ROOT/test/CLASS/, or ROOT/CLASS/; see `Dataset.open`."""
        assert isinstance(params, ImageFolderParams)
        found = _Folder(_root(place), params, place)
        vocabulary, writer, wording = _wording(found, params)
        settings = params.model_dump(exclude={"names", "synonyms"})
        listed = {part: [(file.uid, found.texts[file.uid]) for file in files] for part, files in found.parts.items()}
        known = json.dumps([FORMAT, settings, image_size, wording, listed], sort_keys=True)
        fingerprint = hashlib.sha256(known.encode()).hexdigest()
        label = {folder: number for number, folder in enumerate(found.classes)}
        parts = {}
        for name, files in found.parts.items():
            files = _readable(files, found.faults, place.cache, f"{fingerprint}-{name}")
            if not files:
                raise UserError(f"{found.root} has no readable images for the part '{name}': add images of its classes")
            labels = [label[file.folder] for file in files]
            parts[name] = Part(
                ImageFiles([file.path for file in files], image_size),
                np.array(labels, dtype=np.int64),
                [file.uid for file in files],
                [writer.caption(each, params.caption_seed, file.uid) for each, file in zip(labels, files, strict=True)],
            )
        return labelled_bundle(fingerprint, image_size, vocabulary, parts, found.facts)


def _root(place: DataPlace) -> Path:
    if place.root is None:
        raise UserError(f"the data set imagefolder needs --data-root: {_EXPECTED}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is not a folder: give {_EXPECTED}")
    return place.root


def _wording(found: _Folder, params: ImageFolderParams) -> tuple[Vocabulary, VariedCaptions, Sequence[object]]:
    """The classes, a writer of captions, and everything that the two depend on."""
    names = class_names(found.classes, found.root / params.names if params.names else None)
    synonyms: Sequence[tuple[str, ...]] = [()] * len(names)
    if params.synonyms:
        synonyms = class_synonyms(names, found.classes, found.root / params.synonyms)
    return Vocabulary(names, TEMPLATES), VariedCaptions(names, synonyms), [names, synonyms, TEMPLATES]


def _readable(files: list[ImageFile], faults: Faults, cache: Path | None, identity: str) -> list[ImageFile]:
    """With on_error=skip, the images that can be decoded; otherwise all."""
    if not faults.skip:
        return files
    fine = readable([file.path for file in files], cache / f"readable-{identity}.npy" if cache else None)
    faults.note("unreadable", "", fine.count(False))
    return [file for file, reads in zip(files, fine, strict=True) if reads]


class _Folder:
    """The content of the class folders, without duplicates.

    Attributes
    ----------
    parts : dict of str to list of ImageFile
        The images of train, holdout and test.
    classes : list of str
        Names of the class folders with training images.
    texts : dict of str to str
        A string for the content of each image, by uid; see `class_folders.contents`.
    """

    def __init__(self, root: Path, params: ImageFolderParams, place: DataPlace) -> None:
        self.root = root
        self.faults = Faults(params.on_error, _KINDS, place.findings)
        self._copies = Faults("skip", ("duplicate",), place.findings)
        self._ignored = Ignored()
        train, test = class_folders.layout(root)
        expected = [str(root / name) for name in (params.names, params.synonyms) if name]
        learnt = class_folders.images(root, train, self.faults, self._ignored, expected)
        if len(learnt) < 2:
            raise UserError(f"{train} has {len(learnt)} class folders with images where two are needed: give {_EXPECTED}")
        self.classes = sorted(learnt)
        tested = self._tested(class_folders.images(root, test, self.faults, self._ignored), test) if test else {}
        sides = [[file for files in split.values() for file in files] for split in (learnt, tested)]
        self.texts = dict(zip([file.uid for side in sides for file in side], self._contents(sides), strict=True))
        first, second = self._distinct(sides)
        if test is None:
            first, second = _drawn(train, first, params)
        if len(second) < 2:
            raise UserError(f"{test or train} has {len(second)} usable test images where two are needed: add some")
        rows = np.arange(len(second))
        held, rest = duplicates.halves_by_image(rows, rows, params.split_seed)
        self.parts = {"train": first, "holdout": [second[row] for row in held], "test": [second[row] for row in rest]}
        self._origin = test.name if test else "drawn by image"

    @property
    def facts(self) -> dict[str, str | int]:
        ignored = self._ignored.facts(self.root)
        return {"test_images": self._origin, **ignored, **self._copies.facts, **self.faults.facts}

    def _tested(self, found: dict[str, list[ImageFile]], test: Path) -> dict[str, list[ImageFile]]:
        """The test images of the training classes."""
        for folder in sorted(set(found) - set(self.classes)):
            problem = f"{test / folder} is a class without training images: rename or remove it"
            self.faults.note("unknown", problem, len(found[folder]))
        for folder in self.classes:
            if folder not in found and not (test / folder).is_dir():
                self.faults.note("empty", f"{test} lacks the class {folder}: add a folder with its images")
        return {folder: files for folder, files in found.items() if folder in self.classes}

    def _contents(self, sides: list[list[ImageFile]]) -> list[str]:
        return class_folders.contents([file for side in sides for file in side])

    def _distinct(self, sides: list[list[ImageFile]]) -> list[list[ImageFile]]:
        """The images without copies of an earlier one, and without any that are in two classes."""
        groups = defaultdict(list)
        for side in sides:
            for file in side:
                groups[self.texts[file.uid]].append(file)
        kept = set()
        for first, *copies in groups.values():
            if other := next((file for file in copies if file.folder != first.folder), None):
                problem = f"{other.path} is identical to {first.path} of another class: remove the wrong one"
                self.faults.note("ambiguous", problem, 1 + len(copies))
                continue
            kept.add(first.uid)
            if copies:
                self._copies.note("duplicate", f"{copies[0].path} is identical to {first.path}", len(copies))
        return [[file for file in side if file.uid in kept] for side in sides]


def _drawn(folder: Path, files: list[ImageFile], params: ImageFolderParams) -> tuple[list[ImageFile], list[ImageFile]]:
    """A random split into training and test images."""
    held_out = max(2, round(params.holdout_share * len(files)))
    if len(files) <= held_out:
        raise UserError(f"{folder} has {len(files)} usable images, too few to split: add some, or lower data.holdout_share")
    rank = np.random.default_rng(params.split_seed).permutation(len(files)).tolist()
    parts: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for file, position in zip(files, rank, strict=True):
        parts[position < held_out].append(file)
    return parts
