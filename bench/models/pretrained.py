"""Trained CLIPs from elsewhere: a tag of open_clip, or a file of weights, for an architecture."""

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
"""Where the files lie whose digests this process knows."""
_names: dict[str, str] = {}
"""The tags or names of files by which these digests were asked for."""
_PIXELS = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}


def known_files() -> dict[str, str]:
    """The files of this process by their digests, to tell another."""
    return {digest: str(file.absolute()) for digest, file in _files.items()}


def know(files: Mapping[str, str]) -> None:
    """Take over the `known_files` of another process."""
    _files.update({digest: Path(file) for digest, file in files.items()})


def given(model: str, weights: str) -> str:
    """The digest of weights by tag or file, from which cells of an architecture start: sha256-... of the file's bytes.

    The file of a tag is downloaded unless open_clip has it in its cache. Raises UserError where there is neither such a tag nor
    such a file, where it cannot be downloaded, and where the tag's model is not quite the architecture.
    """
    if weights not in open_clip.list_pretrained_tags_by_model(model):
        file = _file(model, weights)
        return _known(file, file.name)
    tag = get_pretrained_cfg(model, weights)
    if tag.get("quick_gelu", False) != factory.config(model).get("quick_gelu", False):
        other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
        raise UserError(f"the weights {weights} were trained with another activation than {model} has: use --model {other}")
    if any(tuple(tag.get(part) or usual) != usual for part, usual in _PIXELS.items()):
        raise UserError(f"the weights {weights} take pixels that are normalised in another way than all models here")
    try:
        return _known(Path(download_pretrained(tag)), weights)
    except Exception as error:
        raise UserError(
            f"the weights {weights} of {model} cannot be downloaded ({type(error).__name__}); without a network give their file"
        ) from None


def name_of(digest: str) -> str:
    """The tag or the name of the file by which weights were asked for; empty where this process does not know."""
    return _names.get(digest, "")


def start(model: Any, name: str, digest: str) -> None:
    """Give a model of architecture `name` the weights of a file whose digest `given` told."""
    checkpoint.load(model, _place(digest), name)


def identified(name: str) -> str:
    """MODEL:WEIGHTS without the place of a file: MODEL:TAG as it is, MODEL:FILE as MODEL:sha256-... of its bytes.

    Raises UserError where there is neither such a tag nor such a file.
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
    """A model by its `identified` name, with its tokenizer; it takes square images of any size in pixels."""
    model, _, weights = name.partition(":")
    of_file = weights.startswith(_DIGEST)
    found = open_clip.create_model(model, None if of_file else weights, precision="fp32", device="cpu", weights_only=True)
    if of_file:
        checkpoint.load(found, _place(weights), model)
    return _ResizingEncoder(found, precision, device, factory.image_size(model)), factory.tokenizer(model)


def _file(model: str, weights: str) -> Path:
    file = Path(weights)
    if not weights or not file.is_file():
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise UserError(f"{model}: no file {weights!r}, and no weights of that name; {did_you_mean(weights, tags)}")
    return file


def _place(digest: str) -> Path:
    if digest not in _files:
        raise UserError(f"{digest}: where the file of these weights lies is not known; give the file again")
    file = _files[digest]
    if not file.is_file() or _digest_of(file) != digest:
        raise UserError(f"{file}: is no longer the file of weights that was given; put that back, or start the command anew")
    return file


def _known(file: Path, name: str) -> str:
    """The digest of a file, which is read once as long as it stays as it is."""
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
