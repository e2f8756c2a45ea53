"""Decoded images in one file: the same pixels, made once, kept when interrupted, shared by processes."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bench.config import Settings
from bench.data import pixel_file
from bench.data.files import CachedImages, ImageFiles
from bench.errors import UserError
from bench.jobs.memory import CellMemory
from bench.matrix.workspace import Workspace

from .test_imagefolder import folders

COUNT, SIDE = 600, 8
NAME = "images.pixels"


class Counted(ImageFiles):
    """Counts what it decodes, and calls `before` ahead of each image."""

    def __init__(self, paths: list[Path], before: Callable[[int], None] = lambda index: None) -> None:
        super().__init__(paths, SIDE, budget=0)
        self.decoded: list[int] = []
        self.before = before

    def _image(self, index: int) -> np.ndarray:
        self.before(index)
        self.decoded.append(index)
        return super()._image(index)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    made = [folder / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(made):
        Image.new("RGB", (9, 10), (number % 251, number // 251, 5)).save(path)
    return made


def _read(file: Path, images: CachedImages) -> list[int]:
    counts: list[int] = []
    pixel_file.read_from(file, images, counts.append)
    return counts


def test_pixels_are_those_of_the_images_and_decoded_once(tmp_path: Path, paths: list[Path]) -> None:
    first, second = Counted(paths), Counted(paths)
    assert sum(_read(tmp_path / "made" / NAME, first)) == COUNT
    assert _read(tmp_path / "made" / NAME, second) == []
    assert (sorted(first.decoded), second.decoded) == (list(range(COUNT)), [])
    rows = np.array([599, 0, 7, 7])
    expected = ImageFiles(paths, SIDE).load(rows)
    for images in (first, second):
        found = images.load(rows)
        assert torch.equal(found, expected)
        found.zero_()
        assert torch.equal(images.load(rows), expected)
    assert len(first.decoded) == COUNT


def test_what_an_interrupted_process_has_decoded_is_kept(tmp_path: Path, paths: list[Path]) -> None:
    def interrupt(index: int) -> None:
        if index == 520:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _read(tmp_path / NAME, Counted(paths, interrupt))
    assert not (tmp_path / NAME).exists()
    with (tmp_path / NAME).with_suffix(".part").open("ab") as draft:
        draft.write(b"part of an image")
    again = Counted(paths)
    assert _read(tmp_path / NAME, again) == [512, 88]
    assert sorted(again.decoded) == list(range(512, 600))
    assert torch.equal(again.load(np.arange(COUNT)), ImageFiles(paths, SIDE).load(np.arange(COUNT)))


def test_a_file_of_another_size_is_made_anew(tmp_path: Path, paths: list[Path]) -> None:
    _read(tmp_path / NAME, Counted(paths))
    with (tmp_path / NAME).open("r+b") as file:
        file.truncate(1000)
    images = Counted(paths)
    assert sum(_read(tmp_path / NAME, images)) == COUNT == len(images.decoded)


@pytest.mark.parametrize("ending", [".pixels", ".part"])
def test_an_image_that_was_replaced_is_seen(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (8, 8), "red").save(path)
    _read(tmp_path / NAME, Counted([path]))
    if ending == ".part":
        (tmp_path / NAME).rename((tmp_path / NAME).with_suffix(ending))
    Image.new("RGB", (8, 8), "blue").save(path)
    images = Counted([path])
    _read(tmp_path / NAME, images)
    assert images.load(np.array([0]))[0, :, 0, 0].tolist() == [0, 0, 255]


def test_two_processes_make_it_once(tmp_path: Path, paths: list[Path]) -> None:
    both = [Counted(paths), Counted(paths)]
    threads = [threading.Thread(target=_read, args=(tmp_path / NAME, images)) for images in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(images.decoded) for images in both) == [0, COUNT]
    assert torch.equal(*(images.load(np.arange(COUNT)) for images in both))


def test_a_damaged_image_is_named_and_those_before_it_are_kept(tmp_path: Path, paths: list[Path]) -> None:
    broken = [*paths[:300], tmp_path / "absent.png", *paths[301:]]
    with pytest.raises(UserError, match=r"absent\.png is missing"):
        _read(tmp_path / NAME, Counted(broken))
    mended = Counted(paths)
    _read(tmp_path / NAME, mended)
    assert min(mended.decoded) == 256


def test_a_disk_that_is_too_small_or_no_folder(tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^BENCH_PIXELS: .*/file/images\.pixels cannot be written .*: name another folder$"):
        _read(tmp_path / "file" / NAME, Counted(paths))
    monkeypatch.setattr(pixel_file.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match=r"^BENCH_PIXELS=.*: the decoded images need 0\.0 GB, and 0\.0 GB are free there"):
        _read(tmp_path / NAME, Counted(paths))


def test_a_name_for_all_that_determines_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    uids = [str(number) for number in range(5000)]
    names = {
        pixel_file.name(["data", 32], uids),
        pixel_file.name(["data", 64], uids),
        pixel_file.name(["other", 32], uids),
        pixel_file.name(["data", 32], uids[:-1]),
        pixel_file.name(["data", 32], [*uids[:-1], "x"]),
    }
    assert len(names) == 5
    assert pixel_file.name(["data", 32], list(uids)) in names
    monkeypatch.setattr(pixel_file, "PIXELS", "pixels 9")
    assert pixel_file.name(["data", 32], uids) not in names


def test_a_workspace_reads_its_pairs_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, settings = folders(tmp_path / "set", count=20), Settings("imagefolder")
    plain = Workspace(settings, "imagefolder", root)
    plain.preload(lambda count: None)
    splits = [getattr(plain.bundle, name).images for name in ("train", "holdout", "test")]
    expected = [images.load(np.arange(len(images))) for images in splits]
    assert not any(map(pixel_file.holds, splits))
    monkeypatch.setenv("BENCH_PIXELS", str(tmp_path / "pixels"))
    for gone in (False, True):
        workspace, counts = Workspace(settings, "imagefolder", root), []
        if gone:
            monkeypatch.setattr(ImageFiles, "_image", lambda images, index: pytest.fail("it decodes again"))
        workspace.preload(counts.append)
        for name, pixels in zip(("train", "holdout", "test"), expected, strict=True):
            images = getattr(workspace.bundle, name).images
            assert pixel_file.holds(images)
            assert torch.equal(images.load(np.arange(len(images))), pixels)
        assert sum(counts) >= (0 if gone else sum(map(len, splits)))
    assert len(list((tmp_path / "pixels").glob("*.pixels"))) == 3


def test_images_in_files_take_no_memory_of_a_cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workspace = Workspace(Settings("imagefolder"), "imagefolder", folders(tmp_path / "set"))
    monkeypatch.setattr("bench.jobs.memory._resident", lambda process: 0.0)
    memory = CellMemory(torch.device("cuda"))
    assert memory.required(None, workspace) == (24 + 24) * 3 * 32**2  # type: ignore[arg-type]
    monkeypatch.setenv("BENCH_PIXELS", str(tmp_path))
    assert memory.required(None, workspace) == 0  # type: ignore[arg-type]
