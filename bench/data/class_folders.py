"""One folder for each class, as in torchvision's ImageFolder: listing the images, and finding duplicates among them."""

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
    """An image file. uid: its path within the root; folder: the name of its class folder; size: in bytes."""

    path: str
    uid: str
    folder: str
    size: int


@dataclass
class Ignored:
    """Files that are not images of a class: their number and the first one, by kind."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, path: str) -> None:
        self.counts[kind] += 1
        self.first.setdefault(kind, path)

    def facts(self, root: Path) -> dict[str, str | int]:
        """A sentence for each kind, with paths relative to `root`."""
        first = {kind: _text(os.path.relpath(path, root)) for kind, path in self.first.items()}
        return {kind: f"{count:,}, the first {first[kind]}" for kind, count in self.counts.items()}


def layout(root: Path) -> tuple[Path, Path | None]:
    """Find the folders that hold the class folders of the training and of the test split.

    Returns
    -------
    train : Path
        `root`/train, or `root` itself.
    test : Path or None
        None if there is no test split, so that one has to be drawn.

    Raises
    ------
    UserError
        If a test folder has no training folder or shares no class with it.
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
    """The names of the subfolders that are not hidden, sorted; none if `folder` does not exist."""
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
    """List the images of a split by class folder, at any depth and sorted by path; folders without images are left out.

    Parameters
    ----------
    root : Path
        The data root, to which uids are relative.
    split : Path
        The folder that holds the class folders.
    faults, ignored
        Note unusable images, and other files.
    expected : sequence of str
        Paths of files beside the class folders that are not to be noted.

    Raises
    ------
    UserError
        If a folder cannot be read; and whatever `faults` raises.
    """
    found: dict[str, list[ImageFile]] = {}
    try:
        for entry in _entries(split):
            if entry.is_dir() and not hidden(entry.name):
                if mine := _class_images(root, entry, faults, ignored):
                    found[_text(entry.name)] = mine
                else:
                    faults.note("empty", f"{entry.path} contains no image: add some or remove it")
            elif entry.path not in expected:
                ignored.note("hidden_files" if hidden(entry.name) else "other_files", entry.path)
    except OSError as error:
        raise _unreadable(error) from error
    return found


def contents(files: Sequence[ImageFile]) -> list[str]:
    """A string for each file, equal for two files exactly if their bytes are. Files of a unique size are not read.

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
            faults.note("missing", f"{entry.path} is a broken link; restore the file")
        elif not (size := entry.stat().st_size):
            faults.note("unreadable", f"image {entry.path} is empty: replace it")
        else:
            found.append(ImageFile(entry.path, _text(os.path.relpath(entry.path, root)), _text(folder.name), size))
    return sorted(found, key=lambda file: file.uid)


def _tree(folder: str, above: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
    """The files in a folder and its subfolders; links are followed, except into a folder that contains them."""
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
    """A path as valid Unicode: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode(errors="backslashreplace").replace(os.sep, "/")


def _repeated(texts: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Those of the rows whose text is not unique among them."""
    groups = defaultdict(list)
    for row in rows:
        groups[texts[row]].append(row)
    return [row for group in groups.values() if len(group) > 1 for row in group]


def _digest(count: int | None, path: str) -> str:
    """sha256 of the first `count` bytes of a file, or of all of them if None."""
    try:
        with open(path, "rb") as stream:
            if count is None:
                return hashlib.file_digest(stream, "sha256").hexdigest()
            return hashlib.sha256(stream.read(count)).hexdigest()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename} cannot be read ({error.strerror}): check its permissions")
