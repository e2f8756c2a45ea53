import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import decoding, files
from bench.data.decoding import decode
from bench.data.files import ImageFiles, Selection, readable
from bench.errors import UserError

from .pixels import smooth

SIDE = 16


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(256, size=(300, 300, 3)).astype(np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_png(path: Path) -> None:
    Image.fromarray(smooth(90, 90)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-60])


def bomb(path: Path) -> None:
    Image.new("1", (decoding.MAX_PIXELS // 1000 + 1, 1000)).save(path, "PNG")


def huge_bomb(path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(path, "PNG")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (truncated_jpeg, "truncated"),
    "truncated.png": (truncated_png, "cannot be read"),
    "text.jpg": (lambda path: path.write_text("<html>"), "not an image in a known format"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "not an image in a known format"),
    "absent.jpg": (lambda path: None, "missing"),
    "folder.jpg": (lambda path: path.mkdir(), "directory"),
    "bomb.png": (bomb, "more than 89,478,485 pixels"),
    "huge.png": (huge_bomb, "more than 89,478,485 pixels"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    make, problem = BROKEN[name]
    make(tmp_path / name)
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    for call in (lambda: decode(tmp_path / name, SIDE), lambda: load(tmp_path / "good.png", tmp_path / name)):
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert str(tmp_path / name) in message
        assert problem in message
        assert "--set data.on_error=skip" in message
        assert "\n" not in message
    assert readable([tmp_path / "good.png", tmp_path / name]) == [True, False]


def load(*paths: Path) -> torch.Tensor:
    return ImageFiles(paths, SIDE).load(np.arange(len(paths)))


def test_running_out_of_file_handles_is_not_reported_as_a_damaged_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, formats: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(decoding.Image, "open", refuse)
    with pytest.raises(OSError, match="Too many"):
        readable(["a.jpg"])


@pytest.fixture
def ten(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20, 24), (number, 2 * number, 3 * number)).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def counting(path: str, side: int, **more: str) -> np.ndarray:
        calls.append(Path(path).stem)
        return decode(path, side, None, **more)

    monkeypatch.setattr(files, "decode", counting)
    return calls


def test_load_keeps_the_order_and_decodes_once(ten: list[Path], decoded: list[str]) -> None:
    images = ImageFiles(ten, SIDE)
    assert len(images) == 10
    assert decoded == []
    batch = images.load(np.array([7, 2, 2, 9]))
    assert batch.shape == (4, 3, SIDE, SIDE)
    assert batch.dtype == torch.uint8
    assert batch[:, 1, 3, 5].tolist() == [14, 4, 4, 18]
    assert sorted(decoded) == ["2", "7", "9"]
    batch.zero_()
    assert images.load(np.arange(10)[::-1])[:, 0, 0, 0].tolist() == list(range(9, -1, -1))
    assert sorted(decoded) == sorted(str(number) for number in range(10))
    assert images.load(np.array([], dtype=np.int64)).shape == (0, 3, SIDE, SIDE)


def test_nothing_is_cached_beyond_the_memory_budget(ten: list[Path], decoded: list[str]) -> None:
    size = 10 * 3 * SIDE * SIDE
    for budget, times in ((size, 1), (size - 1, 2)):
        decoded.clear()
        images = ImageFiles(ten, SIDE, budget=budget)
        for _ in range(2):
            assert images.load(np.array([4, 3]))[:, 0, 0, 0].tolist() == [4, 3]
        assert len(decoded) == 2 * times


def test_two_threads_may_load(ten: list[Path]) -> None:
    images = ImageFiles(ten, SIDE)
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(images.load(np.arange(10))[:, 0, 0, 0].tolist())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(10))] * 4


def test_an_image_restored_after_an_error_loads(ten: list[Path]) -> None:
    images = ImageFiles(ten, SIDE)
    whole = ten[3].read_bytes()
    ten[3].unlink()
    with pytest.raises(UserError, match=r"3\.png is missing"):
        images.load(np.arange(10))
    ten[3].write_bytes(whole)
    assert images.load(np.array([3]))[0, 2, 0, 0] == 9


def test_selection(ten: list[Path], decoded: list[str]) -> None:
    images = ImageFiles(ten, SIDE)
    some = Selection(images, [8, 1, 5])
    assert len(some) == 3
    assert some.load(np.array([2, 0]))[:, 0, 0, 0].tolist() == [5, 8]
    images.load(np.array([5]))
    assert sorted(decoded) == ["5", "8"]


def test_readable_is_cached_until_an_image_changes(ten: list[Path], decoded: list[str], tmp_path: Path) -> None:
    note = tmp_path / "cache" / "note.npy"
    whole = ten[3].read_bytes()
    ten[3].write_bytes(b"no image")
    expected = [number != 3 for number in range(10)]
    assert readable(ten, note) == expected
    assert len(decoded) == 10
    assert readable(ten, note) == expected
    assert len(decoded) == 10
    ten[3].write_bytes(whole)
    assert readable(ten, note) == [True] * 10
    assert len(decoded) == 20
    for other in (np.zeros(10), np.zeros(9, dtype=bool), np.array(False)):
        np.save(note, other)
        assert readable(ten, note) == [True] * 10
    note.write_text("no array")
    assert readable(ten, note) == [True] * 10
    assert list(note.parent.iterdir()) == [note]


@pytest.mark.parametrize("patience", [-1.0, 1e9])
def test_reads_are_in_order_with_threads_and_without(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", patience)
    threads = set()

    def double(item: int) -> int:
        threads.add(threading.get_ident())
        return 2 * item

    assert files.read_map(double, range(100)) == list(range(0, 200, 2))
    assert (threads == {threading.get_ident()}) == (patience > 0)


def test_as_many_threads_load_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_LOAD_THREADS", "3")
    together = threading.Barrier(3, timeout=20)
    files.thread_map(lambda item: together.wait(), range(3))
    monkeypatch.setenv("BENCH_LOAD_THREADS", "1")
    assert len(set(files.thread_map(lambda item: threading.get_ident(), range(20)))) == 1
