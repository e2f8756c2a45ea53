import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from bench.api.data import DataPlace
from bench.data import cifar, torchvision_sets
from bench.data.downstream import open_sets
from bench.errors import UserError

from .downstream_maker import make_cifar
from .torchvision_maker import cifar as make
from .torchvision_maker import pickled


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def arm(folder: Path, name: str, content: bytes, kind: type[CIFAR10], patch: pytest.MonkeyPatch) -> None:
    """Write a file and make its checksum the published one."""
    (folder / name).write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    for part in ("train_list", "test_list"):
        patch.setattr(kind, part, [[each, md5 if each == name else known] for each, known in getattr(kind, part)])
    if name == kind.meta["filename"]:
        patch.setattr(kind, "meta", {**kind.meta, "md5": md5})


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
@pytest.mark.parametrize("train", [True, False])
def test_content_is_what_torchvision_reads(
    kind: type[CIFAR10], train: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, monkeypatch, kind.__name__)
    rng = np.random.default_rng(0)
    for name, _ in [*kind.train_list, *kind.test_list]:
        labels = rng.integers(3, size=7).tolist()
        content = {"data": rng.integers(256, size=(7, 3072), dtype=np.uint8), "labels": labels, "batch_label": "of 5"}
        arm(tmp_path / kind.base_folder, name, pickled(content), kind, monkeypatch)
    ours, theirs = cifar.read(kind, tmp_path, train), kind(tmp_path, train=train)
    assert ours.data.dtype == np.uint8
    assert np.array_equal(ours.data, theirs.data)
    assert ours.targets.tolist() == theirs.targets
    assert ours.classes == theirs.classes


def test_the_published_files_are_listed() -> None:
    assert [name for name, _ in cifar.published(CIFAR10)] == [
        *(f"data_batch_{n}" for n in range(1, 6)),
        "test_batch",
        "batches.meta",
    ]
    assert ("meta", "7973b15100ade9c7d40fb424638fde48") in cifar.published(CIFAR100)


def test_missing_data_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "published", monkeypatch, "CIFAR100")

    def fetch(url: str, root: Path, filename: str, md5: str) -> None:
        assert (filename, md5) == ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")
        shutil.copytree(tmp_path / "published", root)

    monkeypatch.setattr(cifar, "download_and_extract_archive", fetch)
    with pytest.raises(RuntimeError, match="cifar-100-python does not hold"):
        cifar.read(CIFAR100, tmp_path / "data", train=True)
    assert cifar.read(CIFAR100, tmp_path / "data", train=False, download=True).targets.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_with_code_are_rejected(file: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = pickle.dumps({"data": _Bomb(tmp_path / "ran"), "labels": [0], "label_names": ["a"]}, protocol)
    plugin = torchvision_sets.CIFAR10()
    make(tmp_path / "data", monkeypatch)
    arm(tmp_path / "data" / CIFAR10.base_folder, file, hostile, CIFAR10, monkeypatch)
    with pytest.raises(UserError, match=rf"^\S+/{file} contains posix\.mkdir, but [^\n]*$"):
        plugin.open(plugin.Params(), 16, DataPlace(tmp_path / "data", None))
    make_cifar(tmp_path / "sets", monkeypatch)
    arm(tmp_path / "sets" / "cifar10" / CIFAR10.base_folder, file, hostile, CIFAR10, monkeypatch)
    with pytest.raises(UserError, match=rf"^\S+/{file} contains posix\.mkdir, but [^\n]*$"):
        open_sets(tmp_path / "sets", 16)
    assert not (tmp_path / "ran").exists()
    pickle.loads(hostile)
    assert (tmp_path / "ran").exists()
