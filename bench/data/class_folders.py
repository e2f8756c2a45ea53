"""Folders of classes as torchvision's ImageFolder has them: what is in them, and which images are the same."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from bench.data.files import Faults
from bench.data.samples import hidden
from bench.errors import UserError

TRAIN_FOLDER = "train"
TEST_FOLDERS = ("test", "val", "valid", "validation")

_HEAD = 1 << 16


@dataclass(frozen=True)
class ImageFile:
    """`uid` is its path within the root; `folder` the name of its class's folder."""

    path: str
    uid: str
    folder: str
    size: int


@dataclass
class Ignored:
    """Files that are no images of a class: how many of each kind, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, path: str) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, path)

    def facts(self, root: Path) -> dict[str, str | int]:
        """Paths are given within the root."""
        first = {kind: _text(os.path.relpath(path, root)) for kind, path in self.first.items()}
        return {kind: f"{count:,}, the first {first[kind]}" for kind, count in self.counts.items()}


def layout(root: Path) -> tuple[Path, Path | None]:
    """The folders of the training and of the test classes; no test folder where the images are yet to be split.

    Raises UserError naming a folder that is neither.
    """
    train = root / TRAIN_FOLDER
    known = set(class_folders(train))
    tests = {root / name: class_folders(root / name) for name in TEST_FOLDERS}
    if not known:
        if orphan := next((folder for folder, found in tests.items() if found), None):
            raise UserError(f"{root} has {orphan.name}/ with class folders, but no {TRAIN_FOLDER}/ with some: add or rename it")
        return root, None
    if shared := next((folder for folder, found in tests.items() if known & set(found)), None):
        return train, shared
    for folder, found in tests.items():
        if found:
            raise UserError(
                f"{folder} has none of the class folders of {train} (its first is {found[0]}): sort its images into such "
                f"folders, or move it away to have test images drawn from {TRAIN_FOLDER}/"
            )
    return train, None


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none where it does not exist. Hidden ones are left out."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not hidden(entry.name) and entry.is_dir())
    except OSError as error:
        raise _unreadable(error) from error


def images(
    root: Path, split: Path, faults: Faults, ignored: Ignored, expected: Sequence[str] = ()
) -> dict[str, list[ImageFile]]:
    """The images of each class folder of a split that has some, at any depth, in the order of their paths.

    `expected` are files beside the class folders that belong there. Raises UserError where a folder cannot be read, and what
    `faults` raises.
    """
    found: dict[str, list[ImageFile]] = {}
    try:
        for entry in _entries(split):
            if entry.is_dir() and not hidden(entry.name):
                if mine := _class_images(root, entry, faults, ignored):
                    found[_text(entry.name)] = mine
                else:
                    faults.note("empty", f"{entry.path} holds no image of its class: put some there or remove it")
            elif entry.path not in expected:
                ignored.note("hidden_files" if hidden(entry.name) else "other_files", entry.path)
    except OSError as error:
        raise _unreadable(error) from error
    return found


def contents(files: Sequence[ImageFile]) -> list[str]:
    """A text for each file that equals another's where the bytes do. Of a size that only one file has, no byte is read.

    Raises UserError naming a file that cannot be read.
    """
    texts = [str(file.size) for file in files]
    for count in (_HEAD, None):
        again = _repeated(texts, [row for row, file in enumerate(files) if count or file.size > _HEAD])
        with ThreadPoolExecutor() as pool:
            digests = pool.map(partial(_digest, count), [files[row].path for row in again])
            for row, digest in zip(again, digests, strict=True):
                texts[row] += f" {digest}"
    return texts


def _class_images(root: Path, folder: os.DirEntry[str], faults: Faults, ignored: Ignored) -> list[ImageFile]:
    found = []
    for entry in _tree(folder.path, ()):
        if hidden(entry.name):
            ignored.note("hidden_files", entry.path)
        elif not entry.name.lower().endswith(IMG_EXTENSIONS):
            ignored.note("other_files", entry.path)
        elif not entry.is_file():
            faults.note("missing", f"{entry.path} is a link to nothing; restore the file")
        elif not (size := entry.stat().st_size):
            faults.note("unreadable", f"image {entry.path} is empty: replace it")
        else:
            found.append(ImageFile(entry.path, _text(os.path.relpath(entry.path, root)), _text(folder.name), size))
    return sorted(found, key=lambda file: file.uid)


def _tree(folder: str, above: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
    """The files of a folder and of those within it; links are followed, but never into a folder that holds them."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir() and not hidden(entry.name):
            yield from _tree(entry.path, (*above, real))
        else:
            yield entry


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _text(path: str) -> str:
    """A path that any encoding can write: bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode(errors="backslashreplace").replace(os.sep, "/")


def _repeated(texts: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Those of the rows whose text another row has too."""
    groups = defaultdict(list)
    for row in rows:
        groups[texts[row]].append(row)
    return [row for group in groups.values() if len(group) > 1 for row in group]


def _digest(count: int | None, path: str) -> str:
    """Of the first `count` bytes of a file, or of all."""
    try:
        with open(path, "rb") as stream:
            if count is None:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            return hashlib.sha256(stream.read(count)).hexdigest()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be read ({error.strerror}): give files and folders that you may read")
