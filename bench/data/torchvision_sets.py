"""Torchvision's labelled images as caption data: a caption is the class name in a random template."""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torchvision
from numpy.typing import NDArray
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Images
from bench.api.plugin import Params as PluginParams
from bench.data import cifar, duplicates
from bench.data.class_captions import FOODS, GARMENTS, PHOTOS, Wording, captions
from bench.data.decoding import PIXELS
from bench.data.files import ArrayImages, ImageFiles, Selection
from bench.data.labelled_pairs import Part, labelled_bundle
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"torchvision 2, {PIXELS}"


class TorchvisionParams(PluginParams):
    caption_seed: int = Field(default=0, ge=0, description="seed for the template of each caption")
    split_seed: int = Field(default=0, ge=0, description="seed for the adversary's half of the test split")


@dataclass(frozen=True, eq=False)
class _Split:
    """One split.

    Attributes
    ----------
    images : Images
        All n images.
    labels : int64 (n,)
        Indices into `classes`.
    classes : sequence of str
        Class names.
    digest : str
        Hash of the pixels, or of the files' names and sizes.
    sizes : int64 (n,)
        Size of each encoded image in bytes.
    read : duplicates.Read
        Reads the encoded images.
    """

    images: Images
    labels: NDArray[np.int64]
    classes: Sequence[str]
    digest: str
    sizes: NDArray[np.int64]
    read: duplicates.Read


class _Labelled(Dataset):
    """Labelled images of torchvision, with captions made from class names.

    train: the train split. holdout and test: two random halves of the test split, without images that are also in train;
    identical images are in one half. Task `classes`: at most 20,000 training images, tested on the test half.
    """

    version = "2"
    Params = TorchvisionParams
    needs_root = True
    wording: ClassVar[Wording]
    layout: ClassVar[str]

    @abstractmethod
    def _source(self, root: Path, train: bool, download: bool) -> Any:
        """Torchvision's data set of one split. Raises RuntimeError if it is missing."""

    @abstractmethod
    def _split(self, source: Any, image_size: int) -> _Split:
        """The content of a source, with square images of `image_size` pixels."""

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT in torchvision's layout, downloading it first if it is missing; see `Dataset.open`."""
        assert isinstance(params, TorchvisionParams)
        root = self._root(place)
        train, test = (self._split(self._found(root, split), image_size) for split in (True, False))
        vocabulary = self.wording.vocabulary(train.classes)
        identity = [FORMAT, self.name, params.model_dump(), image_size, vocabulary.names, vocabulary.templates]
        known = json.dumps([identity, train.digest, test.digest], sort_keys=True)
        held, tested = duplicates.holdout_and_test(
            len(train.labels),
            np.concatenate([train.sizes, test.sizes]),
            duplicates.chained(train.read, len(train.labels), test.read),
            params.split_seed,
        )
        rows = {"train": np.arange(len(train.labels)), "holdout": held, "test": tested}
        parts: dict[str, Part] = {}
        for part, chosen in rows.items():
            split = train if part == "train" else test
            labels = split.labels[chosen]
            parts[part] = Part(
                split.images if part == "train" else Selection(split.images, chosen),
                labels,
                [f"{'train' if part == 'train' else 'test'}/{row:06d}" for row in chosen.tolist()],
                captions(labels, vocabulary, np.random.default_rng([params.caption_seed, *part.encode()])),
            )
        facts = {"test_images_in_train": len(test.labels) - len(held) - len(tested)}
        return labelled_bundle(hashlib.sha256(known.encode()).hexdigest(), image_size, vocabulary, parts, facts)

    def _root(self, place: DataPlace) -> Path:
        if place.root is None:
            raise UserError(
                f"the data set {self.name} needs --data-root: the folder that contains {self.layout}, or to download it to"
            )
        if place.root.exists() and not place.root.is_dir():
            raise UserError(f"--data-root {place.root} is not a folder: give the one that contains {self.layout}")
        return place.root

    def _found(self, root: Path, train: bool) -> Any:
        return _first(
            lambda: self._source(root, train, download=False),
            lambda: self._source(root, train, download=True),
            f"{root} does not contain complete files {self.layout}",
        )


def _first(local: Callable[[], Any], download: Callable[[], Any], problem: str) -> Any:
    """The local data set, else the downloaded one. Raises UserError with `problem` and the reason if both fail."""
    try:
        return local()
    except UserError:
        raise
    except RuntimeError:
        pass
    except Exception as error:  # torchvision reads damaged files without checks
        raise UserError(f"{problem} ({_reason(error)}): delete them to download them again") from error
    try:
        return download()
    except UserError:
        raise
    except Exception as error:  # errors of the network, archives or the file system
        raise UserError(f"{problem}, and the download failed ({_reason(error)}): copy them there in that layout") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Arrays(_Labelled):
    """A data set that torchvision holds as one array."""

    def _split(self, source: Any, image_size: int) -> _Split:
        pixels = np.ascontiguousarray(source.data)
        labels = np.asarray(source.targets, dtype=np.int64)
        digest = hashlib.sha256(pixels.data)
        digest.update(labels.tobytes())
        sizes = np.full(len(pixels), pixels[0].nbytes, dtype=np.int64)
        return _Split(
            ArrayImages(pixels, image_size),
            labels,
            source.classes,
            digest.hexdigest(),
            sizes,
            lambda row, start, count: pixels[row].tobytes()[start : start + count],
        )


@register_dataset("cifar10")
class CIFAR10(_Arrays):
    """CIFAR-10 (Krizhevsky 2009): photographs of 32 x 32 pixels, captions from CLIP's prompts."""

    citations = ("krizhevsky2009cifar",)
    wording = PHOTOS
    layout = "cifar-10-batches-py/"

    def _source(self, root: Path, train: bool, download: bool) -> Any:
        return cifar.read(torchvision.datasets.CIFAR10, root, train, download)


@register_dataset("cifar100")
class CIFAR100(_Arrays):
    """CIFAR-100 (Krizhevsky 2009): photographs of 32 x 32 pixels in 100 classes, captions from CLIP's prompts."""

    citations = ("krizhevsky2009cifar",)
    wording = PHOTOS
    layout = "cifar-100-python/"

    def _source(self, root: Path, train: bool, download: bool) -> Any:
        return cifar.read(torchvision.datasets.CIFAR100, root, train, download)


@register_dataset("fashion_mnist")
class FashionMNIST(_Arrays):
    """Fashion-MNIST (Xiao et al. 2017): grayscale images of clothing, 28 x 28 pixels, captions from templates."""

    citations = ("xiao2017fashionmnist",)
    wording = GARMENTS
    layout = "FashionMNIST/raw/"

    def _source(self, root: Path, train: bool, download: bool) -> Any:
        return torchvision.datasets.FashionMNIST(root, train=train, download=download)


@register_dataset("food101")
class Food101(_Labelled):
    """Food-101 (Bossard et al. 2014): photographs of 101 dishes, captions from templates."""

    citations = ("bossard2014food101",)
    wording = FOODS
    layout = "food-101/images/ and food-101/meta/"

    def _source(self, root: Path, train: bool, download: bool) -> Any:
        split = "train" if train else "test"
        return torchvision.datasets.Food101(root, split=split, download=download, loader=os.fspath)

    def _split(self, source: Any, image_size: int) -> _Split:
        found = [source[row] for row in range(len(source))]
        paths = [path for path, _ in found]
        try:
            sizes = [os.path.getsize(path) for path in paths]
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}): unpack food-101.tar.gz again") from error
        labels = np.array([label for _, label in found], dtype=np.int64)
        names = [os.path.join(*Path(path).parts[-2:]) for path in paths]
        digest = hashlib.sha256(json.dumps([names, sizes, labels.tolist()]).encode()).hexdigest()
        return _Split(
            ImageFiles(paths, image_size),
            labels,
            source.classes,
            digest,
            np.array(sizes, dtype=np.int64),
            lambda row, start, count: duplicates.read_bytes(paths[row], start, count),
        )
