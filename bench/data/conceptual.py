"""Conceptual Captions 3M (Sharma et al., ACL 2018) as downloaded by img2dataset, and random subsets of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs, Vocabulary
from bench.api.plugin import Params as PluginParams
from bench.data import classes, shards
from bench.data.classes import ClassParams
from bench.data.decoding import PIXELS
from bench.data.download import Download
from bench.data.files import OnError
from bench.data.mentions import LazyMembers, MentionIndex
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"conceptual 2, {PIXELS}"


class CC3MParams(ClassParams):
    layout: shards.Layout = Field(default="auto", description="folders of files or WebDataset tars; auto prefers files")
    train_images: str = Field(default="train", description="folder of the training shards within the data root")
    val_images: str = Field(default="val", description="folder of the validation shards within the data root")
    train_tsv: str = Field(
        default="Train_GCC-training.tsv", description="captions of the training images, if there is such a file"
    )
    val_tsv: str = Field(default="Validation_GCC-1.1.0-Validation.tsv", description="the same for the validation images")
    test_share: float = Field(
        default=0.25, gt=0, lt=1, description="share of the validation images used for evaluating triggers"
    )
    overlap: Literal["keep", "drop"] = Field(
        default="keep", description="drop removes training images that are byte-identical to a validation image"
    )
    on_error: OnError = Field(
        default="error",
        description="skip drops missing, unreadable, captionless and duplicate images, and reads truncated tars",
    )


class SubsetParams(CC3MParams):
    seed: int = Field(default=0, ge=0, description="which random subset")
    pairs: int = Field(default=0, ge=0, description="its size; 0 is the size in the data set's name")


@register_dataset("cc3m")
class CC3M(Dataset):
    """Conceptual Captions 3M as downloaded by img2dataset, in folders of files or in WebDataset tars.

    train: the training shards. holdout and test: the validation shards, by default three quarters and one quarter of them.
    Failed downloads and images in both folders are counted, but are not errors. Duplicate pairs count once. An image shows the
    classes that its caption mentions.
    """

    citations = ("sharma2018conceptual",)
    version = "2"

    Params: ClassVar[type[PluginParams]] = CC3MParams
    needs_root = True
    size: ClassVar[int] = 0

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/train/ and ROOT/val/, and the two TSV files of captions if there are any; see `Dataset.open`."""
        assert isinstance(params, CC3MParams)
        vocabulary = classes.vocabulary(params.classes, _root(place), None)
        source = Download(_root(place), params.layout, params.on_error, place.cache, place.findings)
        train = source.part(params.train_images, params.train_tsv)
        val = source.part(params.val_images, params.val_tsv)
        drop = params.overlap == "drop"
        train, image_of = source.apart(train if drop else self._subset(train, params, source), val, drop)
        train = self._subset(train, params, source) if drop else train
        settings = params.model_dump(include={"test_share", "on_error", "seed", "pairs"})
        identity = [FORMAT, self.name, settings, image_size, train.digest(), val.digest(), *classes.identity(vocabulary)]
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        tested = max(1, round(params.test_share * len(val)))
        rank = np.random.default_rng(0).permutation(len(val))[image_of]
        parts = {"train": train, "holdout": val.select(np.flatnonzero(rank >= tested))}
        parts["test"] = val.select(np.flatnonzero(rank < tested))
        pairs = {}
        for name, part in parts.items():
            if params.on_error == "skip":
                part = source.readable(part, f"{fingerprint}-{name}")
            if not len(part):
                source.fail("empty", f"{part.folder} has no images for the part '{name}'", "put more shards there")
            pairs[name] = download_pairs(part, image_size, vocabulary, part.folder.name)
        reason = "Conceptual Captions has no labels"
        everything = (pairs["train"], pairs["holdout"], pairs["test"])
        return DatasetBundle(
            fingerprint, image_size, vocabulary, *everything, tasks=(), task_reason=reason, facts=source.faults.facts
        )

    def _subset(self, part: shards.Shards, params: CC3MParams, source: Download) -> shards.Shards:
        """The pairs whose names have the smallest hashes, so that subsets of one seed are nested."""
        if not isinstance(params, SubsetParams):
            return part
        size = params.pairs or self.size
        if len(part) < size:
            problem = f"{part.folder} holds {len(part):,} usable pairs, fewer than {size:,}"
            source.fail("too few", problem, "add shards, or set data.pairs to a smaller number")
        stems = np.array([name.partition(b".")[0].decode() for name in part.names], dtype=object)
        key = hashlib.sha256(str(params.seed).encode()).hexdigest()[:16]
        order = np.argsort(pd.util.hash_array(stems, hash_key=key, categorize=False), kind="stable")
        return part.select(np.sort(order[:size]))


@register_dataset("cc1m")
class CC1M(CC3M):
    """A random subset of one million training pairs of cc3m; holdout and test are those of cc3m."""

    citations = ("sharma2018conceptual",)
    Params = SubsetParams
    size = 1_000_000


@register_dataset("cc500k")
class CC500K(CC3M):
    """Half a million of cc3m's training pairs, by seed, all of them in the cc1m of that seed."""

    citations = ("sharma2018conceptual",)
    Params = SubsetParams
    size = 500_000


@register_dataset("cc100k")
class CC100K(CC3M):
    """A random subset of 100,000 training pairs of cc3m, contained in the cc500k of the same seed."""

    citations = ("sharma2018conceptual",)
    Params = SubsetParams
    size = 100_000


def _root(place: DataPlace) -> Path:
    expected = "the folder that contains train/ and val/, each as img2dataset wrote it"
    if place.root is None:
        raise UserError(f"Conceptual Captions needs --data-root: {expected}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is not a folder: give {expected}")
    return place.root


def download_pairs(part: shards.Shards, image_size: int, vocabulary: Vocabulary, prefix: str) -> Pairs:
    """The pairs of shards; `prefix` begins their uids."""
    return Pairs(
        uids=part.uids(prefix),
        captions=part.captions,
        images=part.images(image_size),
        members=LazyMembers(part.captions, MentionIndex.of(vocabulary)),
    )
