"""A CLIP as defenses and evaluators see it: unit embeddings, normalised pixels, mixed precision inside."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.models import trunk

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_LOG_SCALE = 4.6051702  # ln 100, Radford et al. 2021


class ClipEncoder(nn.Module):
    """Wraps an open_clip model.

    With precision bf16 or fp16 the image tower runs under autocast, and on a GPU the text tower too; on a CPU a small text
    tower is faster in float32. What fp16 cannot hold of gradients is the trainer's affair.
    """

    def __init__(self, model: Any, precision: str, device: torch.device) -> None:
        super().__init__()
        self.model: Any = model.to(device, memory_format=torch.channels_last)
        self.device = device
        self._half = HALF.get(precision)
        self._mean: torch.Tensor
        self._std: torch.Tensor
        mean = getattr(model.visual, "image_mean", None) or (0.48145466, 0.4578275, 0.40821073)
        std = getattr(model.visual, "image_std", None) or (0.26862954, 0.26130258, 0.27577711)
        self.register_buffer("_mean", torch.tensor(mean, device=device).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std, device=device).view(1, 3, 1, 1), persistent=False)

    @property
    def logit_scale(self) -> torch.Tensor:
        return self.model.logit_scale.clamp(max=_MAX_LOG_SCALE).exp()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            embeddings = self.model.encode_image(self._pixels(images))
        return F.normalize(embeddings.float(), dim=-1)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        with self._autocast():
            return trunk.features(self.model.visual, self._pixels(images)).float()

    @torch.no_grad()
    def trunk_dim(self, side: int) -> int:
        """How many features `trunk` gives of images of `side` pixels."""
        training = self.training
        found = self.eval().trunk(torch.zeros(1, 3, side, side, device=self.device))
        self.train(training)
        return found.shape[1]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        with self._autocast() if self.device.type != "cpu" else contextlib.nullcontext():
            embeddings = self.model.encode_text(tokens)
        return F.normalize(embeddings.float(), dim=-1)

    def clamp_logit_scale(self) -> None:
        """Keep the learned scale in range, so that it does not drift where it has no effect."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=_MAX_LOG_SCALE)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        return ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._half) if self._half else contextlib.nullcontext()
