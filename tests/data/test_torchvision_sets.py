from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

import bench.data.torchvision_sets
from bench.api.data import DataPlace, DatasetBundle, Vocabulary
from bench.data.class_captions import FOODS, GARMENTS, PHOTOS
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import datasets

from .pixels import leaks
from .torchvision_maker import cifar, fashion, food

NAMES = ("cifar10", "cifar100", "fashion_mnist", "food101")


def opened(name: str, root: Path | None, size: int = 16, **params: Any) -> DatasetBundle:
    plugin = datasets[name].plugin
    return plugin().open(plugin.Params(**params), size, DataPlace(root, None))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    for module in (bench.data.cifar, torchvision.datasets.mnist, torchvision.datasets.food101):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)


@pytest.fixture(params=NAMES)
def made(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    name = request.param
    makers = {"fashion_mnist": fashion, "food101": food}
    if name in makers:
        return name, makers[name](tmp_path / "data")
    return name, cifar(tmp_path / "data", monkeypatch, name.upper())


def test_captions_images_labels_and_task_correspond(made: tuple[str, Path]) -> None:
    name, root = made
    bundle = opened(name, root)
    count = len(bundle.train)
    assert (len(bundle.holdout), len(bundle.test)) == (6, 6)
    uids = [uid for part in (bundle.train, bundle.holdout, bundle.test) for uid in part.uids]
    assert len(set(uids)) == len(uids) == count + 12
    index = MentionIndex(bundle.vocabulary.names)
    for part in (bundle.train, bundle.holdout, bundle.test):
        assert [index.members(caption) for caption in part.captions] == list(part.members)
    (task,) = bundle.tasks
    assert task.vocabulary == bundle.vocabulary
    assert task.test_labels.tolist() == [member for (member,) in bundle.test.members]
    assert task.train_labels.tolist() == [member for (member,) in bundle.train.members]
    assert bundle.test.images.load(np.arange(6)).shape == task.test_images.load(np.arange(6)).shape == (6, 3, 16, 16)


def test_equal_images_are_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 test images two are in train, and three are one."""
    cifar(tmp_path, monkeypatch)
    batches = bench.data.cifar.read

    def copied(kind: Any, root: Path, train: bool, download: bool = False) -> Any:
        found = batches(kind, root, train, download)
        if not train:
            found.data[[0, 5]] = batches(kind, root, True).data[[3, 4]]
            found.data[[7, 9]] = found.data[2]
        return found

    monkeypatch.setattr(bench.data.cifar, "read", copied)
    food(tmp_path)
    dish = tmp_path / "food-101" / "images" / "hot_dog"
    for copy, of in ((1006, 1000), (1007, 1003), (1009, 1008)):
        (dish / f"{copy}.jpg").write_bytes((dish / f"{of}.jpg").read_bytes())
    for name, left in (("cifar10", 10), ("food101", 10)):
        for seed in range(5):
            bundle = opened(name, tmp_path, split_seed=seed)
            assert leaks(bundle) == 0
            assert bundle.facts["test_images_in_train"] == 2
            assert len(bundle.holdout) + len(bundle.test) == left
            assert len(bundle.tasks[0].test_labels) == len(bundle.test)


def test_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch)
    fashion(tmp_path)
    food(tmp_path)
    for size in (16, 32, 64):
        greys = opened("cifar10", tmp_path, size).train.images.load(np.arange(20))
        assert greys.shape == (20, 3, size, size)
        assert greys[:, 0, 1, 2].tolist() == [50 * (row % 3) + row for row in range(20)]
        assert opened("fashion_mnist", tmp_path, size).train.images.load(np.array([7, 3]))[:, 2, 0, 0].tolist() == [7, 3]
    dishes = opened("food101", tmp_path).train.images.load(np.arange(18)).numpy().astype(int)
    assert np.abs(dishes[:, 0, 5, 5] - np.repeat([0, 80, 160], 6)).max() <= 4


def test_seeds(made: tuple[str, Path]) -> None:
    name, root = made
    first, again = opened(name, root), opened(name, root)
    assert first.fingerprint == again.fingerprint
    assert list(first.train.captions) == list(again.train.captions)
    others = [opened(name, root, caption_seed=1), opened(name, root, split_seed=1), opened(name, root, size=17)]
    assert len({first.fingerprint, *(bundle.fingerprint for bundle in others)}) == 4
    assert list(others[0].train.captions) != list(first.train.captions)
    assert list(others[1].test.uids) != list(first.test.uids)


def test_missing_data_is_downloaded_or_reported(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(UserError, match="--data-root"):
            opened(name, None)
        with pytest.raises(UserError) as caught:
            opened(name, tmp_path / name)
        message = str(caught.value)
        assert "\n" not in message
        assert str(tmp_path / name) in message
        assert "the download failed" in message
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        opened("cifar10", tmp_path / "file")


def test_a_download_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, download_root: str, **options: object) -> None:
        food(Path(download_root))

    monkeypatch.setattr(torchvision.datasets.food101, "download_and_extract_archive", fetch)
    assert len(opened("food101", tmp_path).train) == 18


def test_tampered_batches_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match=r"complete files cifar-10-batches-py/.*download failed"):
        opened("cifar10", tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"does not contain complete files FashionMNIST/raw/"):
        opened("fashion_mnist", tmp_path)
    food(tmp_path)
    (tmp_path / "food-101" / "images" / "hot_dog" / "1002.jpg").unlink()
    with pytest.raises(UserError, match=r"hot_dog/1002\.jpg cannot be read"):
        opened("food101", tmp_path)
    (tmp_path / "food-101" / "meta" / "train.json").write_text("{")
    with pytest.raises(UserError, match="delete them"):
        opened("food101", tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "classes"),
    [
        (GARMENTS.vocabulary(torchvision.datasets.FashionMNIST.classes), 10),
        (PHOTOS.vocabulary(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]), 10),
        (FOODS.vocabulary(["hot_dog", "ice_cream", "fried_rice"]), 3),
    ],
)
def test_no_caption_mentions_two_classes(vocabulary: Vocabulary, classes: int) -> None:
    index = MentionIndex(vocabulary.names)
    assert len(vocabulary.names) == classes
    for number, prompts in enumerate(vocabulary.prompts()):
        assert all(index.members(prompt) == (number,) for prompt in prompts)
