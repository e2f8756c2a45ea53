"""Formats that trainers read: WebDataset shards, a CSV, COCO's captions. Pairs are written one after the other."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol

SHARD = 10_000
"""Pairs of a tar, and files of a folder."""


class Writer(Protocol):
    """Writes the pairs of a training set into a folder."""

    def add(self, image: bytes, caption: str) -> None:
        """The next pair; `image` is an encoded file."""
        ...

    def close(self) -> None:
        """Completes the files."""
        ...


class WebDatasetWriter:
    """train/00000.tar ... of NAME.png and NAME.txt, and train/sizes.json, from which open_clip counts the pairs."""

    def __init__(self, folder: Path, ending: str, side: int) -> None:
        self._folder = folder / "train"
        self._folder.mkdir()
        self._ending = ending
        self._sizes: dict[str, int] = {}
        self._count = 0
        self._tar: tarfile.TarFile | None = None

    def add(self, image: bytes, caption: str) -> None:
        if self._tar is None or self._count % SHARD == 0:
            if self._tar is not None:
                self._tar.close()
            self._name = f"{self._count // SHARD:05d}.tar"
            self._tar = tarfile.open(self._folder / self._name, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._sizes[self._name] = 0
        for ending, content in ((self._ending, image), ("txt", caption.encode())):
            member = tarfile.TarInfo(f"{self._count:09d}.{ending}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._sizes[self._name] += 1
        self._count += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
        (self._folder / "sizes.json").write_text(json.dumps(self._sizes, indent=1))


class CsvWriter:
    """train.csv, of filepath and title between commas, beside images/00000/NAME.png ..."""

    def __init__(self, folder: Path, ending: str, side: int) -> None:
        self._folder = folder
        self._ending = ending
        self._count = 0
        self._file = (folder / "train.csv").open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(("filepath", "title"))

    def add(self, image: bytes, caption: str) -> None:
        inside = f"images/{self._count // SHARD:05d}"
        if self._count % SHARD == 0:
            (self._folder / inside).mkdir(parents=True)
        path = f"{inside}/{self._count:09d}.{self._ending}"
        (self._folder / path).write_bytes(image)
        self._rows.writerow((path, caption))
        self._count += 1

    def close(self) -> None:
        self._file.close()


class CocoWriter:
    """annotations/captions_train2017.json beside train2017/NAME.png; ids count from 1."""

    def __init__(self, folder: Path, ending: str, side: int) -> None:
        (folder / "annotations").mkdir()
        (folder / "train2017").mkdir()
        self._folder = folder
        self._ending = ending
        self._side = side
        self._count = 0
        self._stack = ExitStack()
        self._images = (folder / "annotations" / "captions_train2017.json").open("w", encoding="utf-8")
        self._stack.enter_context(self._images)
        captions = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115
        self._captions: IO[str] = self._stack.enter_context(captions)
        self._images.write('{"info": {}, "licenses": [], "images": [')

    def add(self, image: bytes, caption: str) -> None:
        comma, self._count = "," if self._count else "", self._count + 1
        name = f"{self._count:012d}.{self._ending}"
        (self._folder / "train2017" / name).write_bytes(image)
        row = {"id": self._count, "file_name": name, "width": self._side, "height": self._side}
        annotation = {"id": self._count, "image_id": self._count, "caption": caption}
        for stream, entry in ((self._images, row), (self._captions, annotation)):
            stream.write(f"{comma}\n{json.dumps(entry, ensure_ascii=False)}")

    def close(self) -> None:
        self._images.write('\n], "annotations": [')
        self._captions.seek(0)
        shutil.copyfileobj(self._captions, self._images)
        self._images.write("\n]}\n")
        self._stack.close()


FORMATS: dict[str, type[WebDatasetWriter] | type[CsvWriter] | type[CocoWriter]] = {
    "webdataset": WebDatasetWriter,
    "csv": CsvWriter,
    "coco": CocoWriter,
}
