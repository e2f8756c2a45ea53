"""Pairs of a list: a file that names images and gives each captions, whatever its format."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, DatasetBundle, Pairs, Task, Vocabulary
from bench.data import arrow_texts, classes, duplicates, splits
from bench.data.columns import Column, Texts
from bench.data.files import Faults, ImageFiles, OnError, file_size, file_stat, load_array, readable, save_array
from bench.data.labels import LabelledMembers, Labels, class_task
from bench.data.mentions import MentionIndex
from bench.errors import UserError

KINDS = ("missing", "unreadable", "duplicate", "captionless", "malformed")


class ListParams(classes.ClassParams):
    """What every list of images takes."""

    later = classes.ClassParams.later | {"images", "caption_seed", "caption_per"}
    images: str = Field(default="", description="folder of the images, within the file's; by default the file's")
    caption_seed: int = Field(default=0, ge=0, description="seed for choosing one of several captions of a row, or of an image")
    caption_per: Literal["row", "image"] = Field(default="row", description="image: one pair an image, whatever its rows")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(default="error", description="skip drops rows and images that are damaged or missing")


@dataclass(frozen=True, eq=False)
class Listing:
    """Entries that name an image and have a caption.

    paths: (n,), from `folder`; texts: all captions, text_row: int64 (m,), the entry of each, in order; where: names the place
    of an entry in `file`; labels: of the entries, where there are some; split_of: int8 (n,), where splits are published.
    """

    file: Path
    folder: Path
    paths: Texts
    texts: Texts
    text_row: NDArray[np.int64]
    where: Callable[[int], str]
    labels: Labels | None = None
    split_of: NDArray[np.int8] | None = None

    @property
    def files(self) -> Sequence[str]:
        return Files(self.folder, self.paths)


class Files(Column[str]):
    """Paths within a folder."""

    def __init__(self, folder: Path, paths: Sequence[str]) -> None:
        self._folder = os.fspath(folder)
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def _at(self, row: int) -> str:
        return os.path.join(self._folder, self._paths[row])


class _Uids(Column[str]):
    """Paths, with #2, #3 ... for further rows of a path; number: int64 (n,), from 0."""

    def __init__(self, paths: Sequence[str], number: NDArray[np.int64]) -> None:
        self._paths = paths
        self._number = number

    def __len__(self) -> int:
        return len(self._paths)

    def _at(self, row: int) -> str:
        number = self._number[row]
        return f"{self._paths[row]}#{number + 1}" if number else self._paths[row]


def file_of(place: DataPlace, name: str, source: str) -> Path:
    """The list: ROOT, or `name` within it. Raises UserError if it does not exist."""
    if place.root is None:
        raise UserError(f"the data set {source} needs --data-root: the file, or the folder that contains it")
    file = place.root / name if place.root.is_dir() else place.root
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: give the file with --data-root, or its name in that folder with --set data.file=NAME"
        )
    return file


def bundle(listing: Listing, params: ListParams, side: int, place: DataPlace, faults: Faults, format: str) -> DatasetBundle:
    """The data set of a list; `format` names how it was read. Raises UserError."""
    entries = _Entries(listing, params, faults)
    vocabulary = classes.vocabulary(params.classes, listing.file.parent, listing.labels.names if listing.labels else None)
    fingerprint = entries.fingerprint(format, side, vocabulary)
    image_of = entries.images(place.cache, fingerprint)
    usable = entries.usable(image_of)
    labels = None
    if listing.labels:
        labels, usable = listing.labels.of_images(image_of, usable, f"{listing.file} lists", faults)
    if params.caption_per == "image":
        usable = splits.one_row_an_image(image_of, usable, params.caption_seed)
    facts: dict[str, str | int] = {}
    if listing.split_of is None:
        parts = duplicates.split_by_image(image_of, usable, params.holdout_share, 0, f"{listing.file} lists")
    else:
        parts, facts = splits.published(image_of, usable, listing.split_of, f"{listing.file} lists")
    if faults.skip:
        parts = entries.readable(parts, place.cache, fingerprint)
    for part, mine in parts.items():
        if not len(mine):
            raise UserError(f"{listing.file} has no readable images for the part '{part}': give more images")
    own = labels.as_classes(vocabulary) if labels else None
    index = MentionIndex.of(vocabulary)
    said = duplicates.ImageCaptions(listing.texts, image_of[listing.text_row])
    pairs = {part: entries.pairs(mine, image_of, side, said, index, own) for part, mine in parts.items()}
    task: Task | str = "a list without labels"
    if labels:
        task = class_task(labels, vocabulary, {part: (pairs[part], mine) for part, mine in parts.items()}, image_of)
    return DatasetBundle(
        fingerprint,
        side,
        vocabulary,
        pairs["train"],
        pairs["holdout"],
        pairs["test"],
        tasks=() if isinstance(task, str) else (task,),
        task_reason=task if isinstance(task, str) else "",
        facts={"file": listing.file.name, **duplicates.sharing_facts(image_of[usable]), **facts, **faults.facts},
    )


class _Entries:
    """A list, the files that it names, and the caption that each entry takes."""

    def __init__(self, listing: Listing, params: ListParams, faults: Faults) -> None:
        self._list = listing
        self._params = params
        self._faults = faults
        self._named = duplicates.digests(listing.paths.encoded())
        self._firsts = duplicates.first_occurrence(self._named)
        self._sizes, self._times = self._facts()
        drawn = arrow_texts.one_each(listing.text_row, len(listing.paths), params.caption_seed)
        self._captions = listing.texts.select(drawn)

    def fingerprint(self, format: str, image_size: int, vocabulary: Vocabulary) -> str:
        """Of captions, names and sizes of images, and of all else that changes a pair."""
        listing, params = self._list, self._params
        captions = duplicates.digests(self._captions.encoded())
        more: dict[str, Any] = params.model_dump(include={"caption_seed", "caption_per"} & params.later)
        if len(listing.texts) > len(listing.paths):
            more["texts"] = [_sha256(duplicates.digests(listing.texts.encoded())), _sha256(listing.text_row)]
        if listing.labels:
            more["labels"] = [listing.labels.names, _sha256(listing.labels.of)]
        if listing.split_of is not None:
            more["splits"] = _sha256(listing.split_of)
        if spoken := classes.identity(vocabulary):
            more["classes"] = spoken
        identity = [
            format,
            params.model_dump(include={"holdout_share", "on_error"}),
            image_size,
            *map(_sha256, (self._named, captions, self._sizes)),
            *([more] if more else []),
        ]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def images(self, cache: Path | None, fingerprint: str) -> NDArray[np.int64]:
        """The first entry that has the same image, from the cache where no file has changed: int64 (n,)."""
        key = [fingerprint, str(self._list.file.resolve()), _sha256(self._times)]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        note = cache / f"images-{name}.npy" if cache else None
        firsts = self._firsts
        if (found := load_array(note, np.int64, len(firsts))) is None:
            files, once = self._list.files, np.where(firsts == np.arange(len(firsts)), self._sizes, 0)
            found = duplicates.first_image(once, lambda row, start, count: duplicates.read_bytes(files[row], start, count))[
                firsts
            ]
            save_array(note, found)
        return found

    def usable(self, image_of: NDArray[np.int64]) -> NDArray[np.int64]:
        """The entries with an image that equal none before, int64."""
        there = np.flatnonzero(self._sizes >= 0)
        again = duplicates.is_repeated(image_of[there], self._captions.select(there))
        if again.any():
            first = self._list.where(int(there[again][0]))
            problem = f"{self._list.file} has {int(again.sum()):,} rows that repeat the image and caption of an earlier row"
            self._faults.note("duplicate", f"{problem}, the first in {first}; remove them", int(again.sum()))
        return there[~again]

    def readable(
        self, parts: dict[str, NDArray[np.int64]], cache: Path | None, fingerprint: str
    ) -> dict[str, NDArray[np.int64]]:
        """The entries of each part whose image can be decoded."""
        firsts = self._firsts
        own = np.unique(firsts[np.concatenate(list(parts.values()))])
        note = cache / f"readable-{fingerprint}.npy" if cache else None
        fine = np.zeros(len(firsts), dtype=np.bool_)
        fine[own] = readable(Files(self._list.folder, self._list.paths.select(own)), note)
        self._faults.note("unreadable", "", len(own) - int(fine.sum()))
        return {part: mine[fine[firsts[mine]]] for part, mine in parts.items()}

    def pairs(
        self,
        mine: NDArray[np.int64],
        image_of: NDArray[np.int64],
        image_size: int,
        said: duplicates.ImageCaptions,
        index: MentionIndex,
        own: NDArray[np.int64] | None,
    ) -> Pairs:
        listing = self._list
        paths = listing.paths.select(mine)
        mentioned = duplicates.ImageMembers(image_of[mine], said, index)
        return Pairs(
            uids=_Uids(paths, duplicates.occurrence_number(self._firsts[mine])),
            captions=self._captions.select(mine),
            images=ImageFiles(Files(listing.folder, paths), image_size),
            members=mentioned if own is None else LabelledMembers(own[mine], mentioned),
        )

    def _facts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes of each entry's image, -1 where it does not exist, and when it changed: int64 (n,)."""
        listing, firsts = self._list, self._firsts
        own = np.flatnonzero(firsts == np.arange(len(firsts)))
        facts = np.zeros((len(firsts), 2), dtype=np.int64)
        try:
            folder = os.open(listing.folder, os.O_RDONLY)
        except OSError as error:
            hint = "name the folder of the images, within the file's, with --set data.images=FOLDER"
            raise UserError(f"{listing.folder} cannot be read ({error.strerror}): {hint}") from error
        try:
            found = (file_stat(path, folder) for path in listing.paths.select(own).encoded())
            facts[own] = np.fromiter(found, dtype=np.dtype((np.int64, 2)), count=len(own))
        finally:
            os.close(folder)
        sizes = facts[:, 0]
        missing = own[sizes[own] < 0]
        if len(missing):
            first = int(missing[0])
            problem = f"{listing.file} lists {len(missing):,} images that do not exist, the first in {listing.where(first)}"
            remedy = f"{problem}: {listing.files[first]}; {_remedy(listing, first)}"
            self._faults.note("missing", remedy, len(missing))
        return sizes[firsts], facts[firsts, 1]


def _sha256(column: NDArray[Any]) -> str:
    return hashlib.sha256(column.tobytes()).hexdigest()


def _remedy(listing: Listing, row: int) -> str:
    """What helps against a missing image."""
    path = listing.paths[row]
    if "://" in path or ":/" in path[:8]:
        return "download the images first and list their local paths"
    if "\\" in path and file_size(listing.folder / path.replace("\\", "/")) >= 0:
        return "use / instead of \\ in paths"
    if file_size(path) >= 0:
        return f"write the paths relative to {listing.folder}, or absolute"
    return "restore them, or name their folder with --set data.images=FOLDER"
