"""Work ahead in several processes gives what one process gives, whatever happens to them."""

import os
import signal
from pathlib import Path

import pytest

from bench.data import shards
from bench.data.forks import ahead

from .shard_maker import pairs, write

SHARDS = 20


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})


def test_each_path_is_done_once_by_two_other_processes(tmp_path: Path) -> None:
    def note(path: Path) -> None:
        with path.open("a") as out:
            out.write(f"{os.getpid()}\n")

    paths = [tmp_path / str(number) for number in range(16)]
    ahead(paths, note)
    done = [path.read_text().splitlines() for path in paths]
    assert [len(each) for each in done] == [1] * 16
    assert len({each[0] for each in done} - {str(os.getpid())}) == 2


def test_few_paths_are_left_to_the_caller(tmp_path: Path) -> None:
    ahead([tmp_path / str(number) for number in range(15)], Path.touch)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def half(path: Path) -> None:
        if path.name == "3":
            raise ValueError
        if path.name == "4":
            os.kill(os.getpid(), signal.SIGKILL)
        path.touch()

    ahead([tmp_path / str(number) for number in range(16)], half)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "2", "1", "5", "7", "9", "11", "13", "15"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("layout", ["files", "tars"])
def test_shards_indexed_in_processes_are_those_of_one(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(SHARDS):
        last = write(tmp_path / "train", layout, pairs(number, number + 100), f"{number:05d}")
    if layout == "tars":
        last.write_bytes(last.read_bytes()[:1500])

    def opened(cache: Path | None) -> shards.Shards:
        return shards.read(tmp_path / "train", layout, lambda: None, None, cache)  # type: ignore[arg-type]

    alone = opened(None)
    together = opened(tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "shards").iterdir())) == SHARDS
    monkeypatch.delattr(shards, "of_tar" if layout == "files" else "of_folder")
    assert opened(tmp_path / "cache").digest() == together.digest() == alone.digest()
    assert together.incomplete == alone.incomplete
    assert len(alone.incomplete) == (layout == "tars")
