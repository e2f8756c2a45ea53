"""Visual Genome's region descriptions (Krishna et al., IJCV 2017, arXiv 1602.07332)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import ijson
import numpy as np
from pydantic import Field

from bench.api.data import DataPlace, Dataset, DatasetBundle, Pairs
from bench.api.plugin import Params as PluginParams
from bench.data import classes, duplicates, json_rows
from bench.data.classes import ClassParams
from bench.data.decoding import PIXELS
from bench.data.files import Faults, ImageFiles, OnError, readable
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import register_dataset

FORMAT = f"visual_genome 2, {PIXELS}"
FOLDERS = ("VG_100K", "VG_100K_2")
_FILE = "region_descriptions.json"
_KINDS = ("missing", "unreadable", "captionless", "duplicate", "malformed")
_DOWNLOAD = "get it from https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"


class VisualGenomeParams(ClassParams):
    regions: int = Field(default=5, ge=1, description="random region descriptions merged into an image's caption")
    caption_seed: int = Field(default=0, ge=0, description="seed for choosing the regions")
    holdout_share: float = Field(default=0.1, gt=0, lt=1, description="images kept from training, half holdout and half test")
    split_seed: int = Field(default=0, ge=0, description="seed for choosing these images")
    on_error: OnError = Field(default="error", description="skip drops what is missing, unreadable or malformed")


@dataclass(frozen=True)
class _Image:
    uid: str
    path: str
    phrases: tuple[str, ...]


@register_dataset("visual_genome")
class VisualGenome(Dataset):
    """Visual Genome: photographs, each with a caption merged from 5 random region descriptions.

    There is no official split: holdout and test are drawn by image, and files with the same bytes are one image. Regions are
    drawn from an image's distinct descriptions; all of them are used if there are fewer. An image shows the classes that any of
    its descriptions mentions.
    """

    citations = ("krishna2017visualgenome",)
    Params = VisualGenomeParams
    needs_root = True
    version = "2"

    def open(self, params: PluginParams, image_size: int, place: DataPlace) -> DatasetBundle:
        """Open ROOT/region_descriptions.json, ROOT/VG_100K/ and ROOT/VG_100K_2/; see `Dataset.open`."""
        assert isinstance(params, VisualGenomeParams)
        root = _root(place)
        vocabulary = classes.vocabulary(params.classes, root, None)
        faults = Faults(params.on_error, _KINDS, place.findings)
        phrases, digest = _phrases(root / _FILE, faults)
        sizes = _sizes(root)
        images = _images(root, phrases, sizes, faults)
        found = sorted((image.uid, sizes[image.uid]) for image in images)
        settings = params.model_dump(exclude={"classes"})
        identity = [FORMAT, settings, image_size, digest, found, *classes.identity(vocabulary)]
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        parts, facts = _split(root / _FILE, images, sizes, params)
        if params.on_error == "skip":
            cached = place.cache / f"readable-{fingerprint}.npy" if place.cache else None
            fine = readable([image.path for image in images], cached)
            faults.note("unreadable", "", fine.count(False))
            damaged = {image.uid for image, reads in zip(images, fine, strict=True) if not reads}
            parts = {name: [image for image in part if image.uid not in damaged] for name, part in parts.items()}
        for name, part in parts.items():
            if not part:
                raise UserError(f"{root} has no readable images for the part '{name}': give more images")
        index = MentionIndex.of(vocabulary)
        train, holdout, test = (_pairs(parts[name], image_size, params, index) for name in ("train", "holdout", "test"))
        return DatasetBundle(
            fingerprint,
            image_size,
            vocabulary,
            train,
            holdout,
            test,
            tasks=(),
            task_reason="region descriptions have no labels",
            facts={**facts, **faults.facts},
        )


def _root(place: DataPlace) -> Path:
    expected = f"the folder that contains {_FILE} and VG_100K/"
    if place.root is None:
        raise UserError(f"the data set visual_genome needs --data-root: {expected}")
    if not place.root.is_dir():
        raise UserError(f"--data-root {place.root} is not a folder: give {expected}")
    return place.root


def _phrases(file: Path, faults: Faults) -> tuple[dict[int, tuple[str, ...]], str]:
    """The distinct descriptions of each image, by id, and the sha256 of the file."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            return _distinct(file, stream, faults), digest
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): {_DOWNLOAD}") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not complete JSON: download it again") from error


def _distinct(file: Path, stream: BufferedReader, faults: Faults) -> dict[int, tuple[str, ...]]:
    if not stream.peek().lstrip().startswith(b"["):
        raise UserError(f"{file} is not a list of images with their regions: {_DOWNLOAD}")
    phrases: dict[int, tuple[str, ...]] = {}
    for number, row in enumerate(json_rows.entries(stream, "item")):
        where = f"{file}: [{number}]"
        image = json_rows.identifier(row.get("id")) if isinstance(row, dict) else None
        if not isinstance(image, int) or not isinstance(row.get("regions"), list):
            faults.note("malformed", f"{where} has no whole number 'id' and list 'regions'; {json_rows.REMEDY}")
            continue
        distinct = tuple(dict.fromkeys(_texts(where, row["regions"], faults)))
        if image in phrases:
            faults.note("duplicate", f"{where}: the image id {image} occurs twice; remove one of them")
        elif not distinct:
            faults.note("captionless", f"{where}: image {image} has no region with a phrase; add one")
        else:
            phrases[image] = distinct
    return phrases


def _texts(where: str, regions: list[Any], faults: Faults) -> Iterator[str]:
    """Yield the descriptions that are not empty."""
    for number, region in enumerate(regions):
        text = json_rows.text(region.get("phrase")) if isinstance(region, dict) else None
        if text is None:
            faults.note("malformed", f"{where}: regions[{number}] has no string 'phrase'; {json_rows.REMEDY}")
        elif text := text.strip():
            yield text


def _sizes(root: Path) -> dict[str, int]:
    """Size in bytes of each file in the image folders, by its path relative to the root."""
    sizes: dict[str, int] = {}
    for name in FOLDERS:
        folder = root / name
        if folder.is_dir():
            with os.scandir(folder) as entries:
                sizes.update({f"{name}/{entry.name}": entry.stat().st_size for entry in entries if entry.is_file()})
    if not sizes:
        raise UserError(f"{root} has no images in VG_100K/ or VG_100K_2/: {_DOWNLOAD} and unpack both archives of images")
    return sizes


def _images(root: Path, phrases: dict[int, tuple[str, ...]], sizes: dict[str, int], faults: Faults) -> list[_Image]:
    """The images that have descriptions and a file, in the order of the descriptions."""
    images, missing = [], []
    for image, texts in phrases.items():
        uid = next((uid for folder in FOLDERS if (uid := f"{folder}/{image}.jpg") in sizes), None)
        if uid is None:
            missing.append(image)
        else:
            images.append(_Image(uid, os.path.join(root, uid), texts))
    if missing:
        problem = f"{root} lacks {len(missing)} of the images that {_FILE} describes, the first {missing[0]}.jpg"
        faults.note("missing", f"{problem}; restore them in VG_100K or VG_100K_2", len(missing))
    return images


def _split(
    file: Path, images: Sequence[_Image], sizes: dict[str, int], params: VisualGenomeParams
) -> tuple[dict[str, list[_Image]], dict[str, str | int]]:
    """train, holdout and test, each in the order of the file, and facts about duplicates."""
    counts = np.array([sizes[image.uid] for image in images], dtype=np.int64)
    image_of = duplicates.first_image(counts, lambda row, start, count: duplicates.read_bytes(images[row].path, start, count))
    rows = np.arange(len(images))
    parts = duplicates.split_by_image(image_of, rows, params.holdout_share, params.split_seed, f"{file} describes")
    return {part: [images[row] for row in mine.tolist()] for part, mine in parts.items()}, duplicates.sharing_facts(image_of)


def _pairs(images: list[_Image], image_size: int, params: VisualGenomeParams, mentions: MentionIndex) -> Pairs:
    return Pairs(
        uids=[image.uid for image in images],
        captions=[_merged(image, params) for image in images],
        images=ImageFiles([image.path for image in images], image_size),
        members=[mentions.members(*image.phrases) for image in images],
    )


def _merged(image: _Image, params: VisualGenomeParams) -> str:
    """Random descriptions as one caption, determined by the seed, the image's id and its descriptions."""
    number = int(Path(image.uid).stem)
    count = min(params.regions, len(image.phrases))
    chosen = np.random.default_rng([params.caption_seed, number]).permutation(len(image.phrases))[:count]
    return ". ".join(image.phrases[row].rstrip(".") for row in chosen) + "."
