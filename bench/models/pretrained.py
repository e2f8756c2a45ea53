"""Pretrained weights: a tag of open_clip, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained, get_pretrained_cfg

from bench.errors import UserError, did_you_mean
from bench.models import checkpoint, factory
from bench.models.encoder import ClipEncoder
from bench.models.word_tokenizer import Tokenizer

_DIGEST = "sha256-"
_files: dict[str, Path] = {}
"""Paths of files by digest."""
_names: dict[str, str] = {}
"""Tags or file names by digest."""
_PIXELS = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}


def known_files() -> dict[str, str]:
    """The paths of all files seen so far, by digest, for `add_files` in another process."""
    return {digest: str(file.absolute()) for digest, file in _files.items()}


def add_files(files: Mapping[str, str]) -> None:
    """Add the `known_files` of another process."""
    _files.update({digest: Path(file) for digest, file in files.items()})


def digest_of(model: str, weights: str) -> str:
    """The digest, sha256-..., of the weights that a tag or file name stands for.

    A tag's file is downloaded unless it is in open_clip's cache. Raises UserError if there is neither such a tag nor such a
    file, if the download fails, or if the tag's model differs from the architecture `model` in its activation or pixel
    normalisation.
    """
    if weights not in open_clip.list_pretrained_tags_by_model(model):
        file = _file(model, weights)
        return _add(file, file.name)
    tag = get_pretrained_cfg(model, weights)
    if tag.get("quick_gelu", False) != factory.config(model).get("quick_gelu", False):
        other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
        raise UserError(
            f"the weights {weights} were trained with another activation function than that of {model}: use --model {other}"
        )
    if any(tuple(tag.get(part) or usual) != usual for part, usual in _PIXELS.items()):
        raise UserError(f"the weights {weights} expect pixels with another mean and deviation than the models here")
    try:
        return _add(Path(download_pretrained(tag)), weights)
    except Exception as error:
        raise UserError(
            f"the weights {weights} of {model} cannot be downloaded ({type(error).__name__}); offline, give their file"
        ) from None


def name_of(digest: str) -> str:
    """The tag or file name that weights were given by; empty if unknown to this process."""
    return _names.get(digest, "")


def load_weights(model: Any, name: str, digest: str) -> None:
    """Load weights by digest into a model of architecture `name`."""
    checkpoint.load(model, _path(digest), name)


def identified(name: str) -> str:
    """MODEL:WEIGHTS without paths: MODEL:TAG is returned as it is, MODEL:FILE as MODEL:sha256-....

    Raises UserError if there is neither such a tag nor such a file.
    """
    model, _, weights = name.partition(":")
    factory.config(model)
    if weights in open_clip.list_pretrained_tags_by_model(model) or weights.startswith(_DIGEST):
        return name
    file = _file(model, weights)
    digest = _digest_of(file)
    _files[digest] = file.absolute()
    return f"{model}:{digest}"


def load(name: str, precision: str, device: torch.device) -> tuple[ClipEncoder, Tokenizer]:
    """A model by its `identified` name, with its tokenizer. Its images are square, of any size."""
    model, _, weights = name.partition(":")
    of_file = weights.startswith(_DIGEST)
    found = open_clip.create_model(model, None if of_file else weights, precision="fp32", device="cpu", weights_only=True)
    if of_file:
        checkpoint.load(found, _path(weights), model)
    return _ResizingEncoder(found, precision, device, factory.image_size(model)), factory.tokenizer(model)


def _file(model: str, weights: str) -> Path:
    file = Path(weights)
    if not weights or not file.is_file():
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise UserError(f"{model}: no file {weights!r}, and no weights of that name; {did_you_mean(weights, tags)}")
    return file


def _path(digest: str) -> Path:
    if digest not in _files:
        raise UserError(f"{digest}: the path of these weights is unknown; give the file again")
    file = _files[digest]
    if not file.is_file() or _digest_of(file) != digest:
        raise UserError(f"{file}: the weights have changed since the command started; restore them, or start it again")
    return file


def _add(file: Path, name: str) -> str:
    """The digest of a file; an unchanged file is read once."""
    stat = file.stat()
    digest = _read_once(file.absolute(), stat.st_size, stat.st_mtime_ns)
    _files[digest], _names[digest] = file.absolute(), name
    return digest


@lru_cache
def _read_once(file: Path, _size: int, _changed: int) -> str:
    return _digest_of(file)


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return _DIGEST + hashlib.file_digest(stream, "sha256").hexdigest()


class _ResizingEncoder(ClipEncoder):
    def __init__(self, model: torch.nn.Module, precision: str, device: torch.device, side: int) -> None:
        super().__init__(model, precision, device)
        self._side = side

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] != self._side:
            images = F.interpolate(images, self._side, mode="bicubic", antialias=True).clamp(0, 1)
        return super().encode_image(images)
