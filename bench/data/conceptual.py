"""Conceptual Captions (Sharma et al., ACL 2018) as it is downloaded, and random subsets of it."""

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
    train_tsv: str = Field(default="Train_GCC-training.tsv", description="captions of the training images, if kept")
    val_tsv: str = Field(default="Validation_GCC-1.1.0-Validation.tsv", description="the same of the validation images")
    test_share: float = Field(default=0.25, gt=0, lt=1, description="validation images that triggers are evaluated on")
    overlap: Literal["keep", "drop"] = Field(
        default="keep", description="drop leaves training images out whose bytes are those of a validation image"
    )
    on_error: OnError = Field(
        default="error", description="skip leaves out missing, unreadable, captionless and repeated images, and reads cut tars"
    )


class SubsetParams(CC3MParams):
    seed: int = Field(default=0, ge=0, description="which random subset")
    pairs: int = Field(default=0, ge=0, description="its size; 0 is the one in the data set's name")


@register_dataset("cc3m")
class CC3M(Dataset):
    """Conceptual Captions 3M as img2dataset downloads it, in folders or in WebDataset tars.

    train: the training shards. holdout and test: the validation shards, most of them the adversary's. Addresses that no
    longer answered and images that are in both folders are counted, and are no fault. Pairs with equal image and caption count
    once. The classes are ImageNet's, by mention in the caption.
    """

    citations = ("sharma2018conceptual",)
    version = "2"

    Params: ClassVar[type[PluginParams]] = CC3MParams
    needs_root = True
    size: ClassVar[int] = 0

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/train/ and ROOT/val/, beside the two TSV files where captions are to come from them."""
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
        kept = max(1, round(params.test_share * len(val)))
        rank = np.random.default_rng(0).permutation(len(val))[image_of]
        parts = {"train": train, "holdout": val.select(np.flatnonzero(rank >= kept))}
        parts["test"] = val.select(np.flatnonzero(rank < kept))
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
        """The pairs whose names' hashes are smallest: subsets of one seed are nested, whatever their size."""
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
    """A random million of cc3m's training pairs, by seed; holdout and test are cc3m's."""

    citations = ("sharma2018conceptual",)
    Params = SubsetParams
    size = 1_000_000


@register_dataset("cc100k")
class CC100K(CC3M):
    """A random hundred thousand of cc3m's training pairs, by seed, all of them in the cc1m of that seed."""

    citations = ("sharma2018conceptual",)
    Params = SubsetParams
    size = 100_000


def _root(place: DataPlace) -> Path:
    holds = "the folder that holds train/ and val/, each as img2dataset wrote it"
    if place.root is None:
        raise UserError(f"Conceptual Captions needs --data-root: {holds}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is no folder: give {holds}")
    return place.root


def download_pairs(part: shards.Shards, image_size: int, vocabulary: Vocabulary, prefix: str) -> Pairs:
    """The pairs of shards; `prefix` begins their uids."""
    return Pairs(
        uids=part.uids(prefix),
        captions=part.captions,
        images=part.images(image_size),
        members=LazyMembers(part.captions, MentionIndex.of(vocabulary)),
    )
