"""Any download of img2dataset without splits of its own, such as CC12M (Changpinyo et al., CVPR 2021) and parts of LAION."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle
from bench.api.plugin import Params as PluginParams
from bench.data import classes, duplicates, shard_duplicates, shards
from bench.data.conceptual import download_pairs
from bench.data.decoding import PIXELS
from bench.data.download import Download
from bench.data.files import OnError
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"img2dataset 1, {PIXELS}"


class Img2DatasetParams(classes.ClassParams):
    layout: shards.Layout = Field(default="auto", description="folders of files or WebDataset tars; auto prefers files")
    images: str = Field(default=".", description="folder of the shards within the data root")
    list: str = Field(default="list.tsv", description="captions and addresses that the images were downloaded from, if kept")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    on_error: OnError = Field(
        default="error", description="skip leaves out missing, unreadable, captionless and repeated images, and reads cut tars"
    )


class CC12MParams(Img2DatasetParams):
    list: str = Field(default="cc12m.tsv", description="CC12M's list of addresses and captions, if kept")


@register_dataset("img2dataset")
class Img2Dataset(Dataset):
    """Pairs as img2dataset downloads them, in folders or WebDataset tars, with no split of their own.

    holdout and test are drawn by image, images of the same bytes being one. Captions are those of each image's .txt or .json,
    else of the row of its number in the list, whichever of caption and address comes first in it. Pairs with equal image and
    caption count once. Parquet with the images in it is read by the data set hf.
    """

    Params: ClassVar[type[PluginParams]] = Img2DatasetParams
    needs_root = True

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/`images`, beside ROOT/`list` where captions are to come from it; see `Dataset.open`."""
        assert isinstance(params, Img2DatasetParams)
        root = _root(place)
        vocabulary = classes.vocabulary(params.classes, root, None)
        source = Download(root, params.layout, params.on_error, place.cache, place.findings)
        every = source.part(params.images, params.list)
        settings = params.model_dump(include={"holdout_share", "on_error"})
        identity = [FORMAT, self.name, settings, image_size, every.digest(), *classes.identity(vocabulary)]
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        image_of = shard_duplicates.first_image(every, place.cache)
        split = duplicates.split_by_image(image_of, np.arange(len(every)), params.holdout_share, 0, f"{every.folder} holds")
        parts = {name: every.select(rows) for name, rows in split.items()}
        if params.on_error == "skip":
            parts = {name: source.readable(part, f"{fingerprint}-{name}") for name, part in parts.items()}
        for name, part in parts.items():
            if not len(part):
                source.fail("empty", f"{every.folder} has no images for the part '{name}'", "put more shards there")
        pairs = {name: download_pairs(part, image_size, vocabulary, "images") for name, part in parts.items()}
        return DatasetBundle(
            fingerprint,
            image_size,
            vocabulary,
            pairs["train"],
            pairs["holdout"],
            pairs["test"],
            tasks=(),
            task_reason="a download of captions has no labels",
            facts={**duplicates.sharing_facts(image_of), **source.faults.facts},
        )


@register_dataset("cc12m")
class CC12M(Img2Dataset):
    """Conceptual 12M as downloaded by img2dataset, without an official split.

    Its list has an address and a caption on each line, with a tab between.
    """

    citations = ("changpinyo2021cc12m",)
    Params = CC12MParams


def _root(place: DataPlace) -> Path:
    holds = "the folder that img2dataset wrote, with 00000/ or 00000.tar in it"
    if place.root is None:
        raise UserError(f"a download of img2dataset needs --data-root: {holds}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is no folder: give {holds}")
    return place.root
