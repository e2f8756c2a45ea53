"""Images in a folder for each class, as torchvision's ImageFolder has them, with captions made of the classes' names."""

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
from bench.data import class_folders, same
from bench.data.class_folders import Ignored, ImageFile
from bench.data.class_names import class_names, class_synonyms
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, readable
from bench.data.labelled_pairs import Part, labelled_bundle
from bench.data.varied_captions import TEMPLATES, VariedCaptions
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"imagefolder 1, {PIXELS}"
_HOLDS = "the folder that holds train/CLASS/ and test/CLASS/, or CLASS/"
_KINDS = ("missing", "unreadable", "empty", "unknown", "ambiguous")


class ImageFolderParams(PluginParams):
    names: str = Field(default="", description="file in the data root of lines FOLDER,NAME, for classes named otherwise")
    synonyms: str = Field(default="", description="file in the data root of lines NAME,SYNONYM,..., which captions use too")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training where there is no test folder")
    caption_seed: int = Field(default=0, ge=0, description="chooses the words of each caption")
    split_seed: int = Field(default=0, ge=0, description="chooses the kept images, and which half of them is the adversary's")
    on_error: OnError = Field(default="error", description="skip leaves out damaged and missing images and empty folders")


@register_dataset("imagefolder")
class ImageFolder(Dataset):
    """Images in a folder for each class (torchvision's ImageFolder): captions of varied words around the class's name.

    train: the folder train/. holdout and test: two random halves of test/ (or val/, valid/, validation/); where there are no
    such folders, of a share of all images. Equal bytes under two names are one image, the first; under two classes they are
    an error. Task `classes`: at most 20,000 training images, tested on the test half.
    """

    Params = ImageFolderParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/train/CLASS/ and ROOT/test/CLASS/, or ROOT/CLASS/; see `Dataset.open`."""
        assert isinstance(params, ImageFolderParams)
        found = _Folder(_root(place), params, place)
        vocabulary, writer, spoken = _wording(found, params)
        said = params.model_dump(exclude={"names", "synonyms"})
        listed = {part: [(file.uid, found.texts[file.uid]) for file in files] for part, files in found.parts.items()}
        known = json.dumps([FORMAT, said, image_size, spoken, listed], sort_keys=True)
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
        raise UserError(f"the data set imagefolder needs --data-root: {_HOLDS}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is no folder: give {_HOLDS}")
    return place.root


def _wording(found: _Folder, params: ImageFolderParams) -> tuple[Vocabulary, VariedCaptions, Sequence[object]]:
    """The classes, what writes captions of them, and all words that these depend on."""
    names = class_names(found.classes, found.root / params.names if params.names else None)
    synonyms: Sequence[tuple[str, ...]] = [()] * len(names)
    if params.synonyms:
        synonyms = class_synonyms(names, found.classes, found.root / params.synonyms)
    return Vocabulary(names, TEMPLATES), VariedCaptions(names, synonyms), [names, synonyms, TEMPLATES]


def _readable(files: list[ImageFile], faults: Faults, cache: Path | None, note: str) -> list[ImageFile]:
    """Under on_error=skip those that can be decoded."""
    if not faults.skip:
        return files
    fine = readable([file.path for file in files], cache / f"readable-{note}.npy" if cache else None)
    faults.note("unreadable", "", fine.count(False))
    return [file for file, reads in zip(files, fine, strict=True) if reads]


class _Folder:
    """What the folders of classes hold, each image once.

    parts: the images of train, holdout and test. classes: the names of the folders that training images lie in. texts: what
    stands for the content of each image, by its uid.
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
            raise UserError(f"{train} has {len(learnt)} class folders with images where two are needed: give {_HOLDS}")
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
        held, rest = same.halved(rows, rows, params.split_seed)
        self.parts = {"train": first, "holdout": [second[row] for row in held], "test": [second[row] for row in rest]}
        self._origin = test.name if test else "drawn by image"

    @property
    def facts(self) -> dict[str, str | int]:
        ignored = self._ignored.facts(self.root)
        return {"test_images": self._origin, **ignored, **self._copies.facts, **self.faults.facts}

    def _tested(self, found: dict[str, list[ImageFile]], test: Path) -> dict[str, list[ImageFile]]:
        """The test images of the training classes."""
        for folder in sorted(set(found) - set(self.classes)):
            problem = f"{test / folder} is a class without training images: rename it, or move it away"
            self.faults.note("unknown", problem, len(found[folder]))
        for folder in self.classes:
            if folder not in found and not (test / folder).is_dir():
                self.faults.note("empty", f"{test} lacks the class {folder}: add a folder of its images")
        return {folder: files for folder, files in found.items() if folder in self.classes}

    def _contents(self, sides: list[list[ImageFile]]) -> list[str]:
        return class_folders.contents([file for side in sides for file in side])

    def _distinct(self, sides: list[list[ImageFile]]) -> list[list[ImageFile]]:
        """The images without copies of an earlier one, and without any that lie in two classes."""
        groups = defaultdict(list)
        for side in sides:
            for file in side:
                groups[self.texts[file.uid]].append(file)
        kept = set()
        for first, *copies in groups.values():
            if other := next((file for file in copies if file.folder != first.folder), None):
                problem = f"{other.path} of one class has the bytes of {first.path} of another: remove the wrong one"
                self.faults.note("ambiguous", problem, 1 + len(copies))
                continue
            kept.add(first.uid)
            if copies:
                self._copies.note("duplicate", f"{copies[0].path} has the bytes of {first.path}", len(copies))
        return [[file for file in side if file.uid in kept] for side in sides]


def _drawn(folder: Path, files: list[ImageFile], params: ImageFolderParams) -> tuple[list[ImageFile], list[ImageFile]]:
    """Training and test images, drawn at random."""
    kept = max(2, round(params.holdout_share * len(files)))
    if len(files) <= kept:
        raise UserError(f"{folder} has {len(files)} usable images, too few to split: add some, or lower data.holdout_share")
    rank = np.random.default_rng(params.split_seed).permutation(len(files)).tolist()
    parts: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for file, place in zip(files, rank, strict=True):
        parts[place < kept].append(file)
    return parts
