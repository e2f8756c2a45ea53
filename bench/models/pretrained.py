"""Trained CLIPs from elsewhere, by MODEL:WEIGHTS: an architecture of open_clip and a tag or a file of weights for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F

from bench.errors import UserError, did_you_mean
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.models.word_tokenizer import Tokenizer

_DIGEST = "sha256-"
_files: dict[str, Path] = {}
"""Where the files lie whose digests `identified` gave."""


def identified(name: str) -> str:
    """The name without the place of a file: MODEL:TAG as it is, MODEL:FILE as MODEL:sha256-... of its bytes.

    Raises UserError where there is neither such a tag nor such a file.
    """
    model, _, weights = name.partition(":")
    factory.config(model)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights in tags or weights.startswith(_DIGEST):
        return name
    file = Path(weights)
    if not weights or not file.is_file():
        raise UserError(f"{name}: no file {weights!r}, and no weights of that name for {model}; {did_you_mean(weights, tags)}")
    with file.open("rb") as stream:
        digest = _DIGEST + hashlib.file_digest(stream, "sha256").hexdigest()
    _files[digest] = file
    return f"{model}:{digest}"


def load(name: str, precision: str, device: torch.device) -> tuple[ClipEncoder, Tokenizer]:
    """A model by its `identified` name, with its tokenizer; it takes square images of any size in pixels."""
    model, _, weights = name.partition(":")
    if weights.startswith(_DIGEST) and weights not in _files:
        raise UserError(f"{name}: where that file lies is not known; give {model}:FILE")
    found = open_clip.create_model(model, pretrained=str(_files.get(weights, weights)), precision="fp32", device="cpu")
    return _ResizingEncoder(found, precision, device, factory.image_size(model)), factory.tokenizer(model)


class _ResizingEncoder(ClipEncoder):
    def __init__(self, model: torch.nn.Module, precision: str, device: torch.device, side: int) -> None:
        super().__init__(model, precision, device)
        self._side = side

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] != self._side:
            images = F.interpolate(images, self._side, mode="bicubic", antialias=True).clamp(0, 1)
        return super().encode_image(images)
