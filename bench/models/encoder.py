"""The CLIP that defenses and evaluators use: unit-length embeddings, with pixel normalisation and mixed precision inside."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.models import stages, texts, trunk
from bench.models import tokens as parts

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_LOG_SCALE = 4.6051702  # ln 100, Radford et al. 2021


class ClipEncoder(nn.Module):
    """Wraps an open_clip model; see `bench.api.Encoder`.

    Parameters
    ----------
    model : nn.Module
        The open_clip model.
    precision : {"fp32", "bf16", "fp16"}
        With bf16 and fp16 the image tower runs under autocast, and on a GPU also the text tower; on a CPU a small text tower is
        faster in float32. The trainer scales the gradients of fp16.
    device : torch.device
        Where the model is moved.
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
        """exp of the learned log scale, at most 100: a scalar with gradient."""
        scale: torch.Tensor = self.model.logit_scale
        return scale.clamp(max=_MAX_LOG_SCALE).exp()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Unit-length embeddings, float32 (n, d), of images, float32 (n, 3, side, side) in [0, 1]."""
        with self._autocast():
            embeddings = self.model.encode_image(self._pixels(images))
        return F.normalize(embeddings.float(), dim=-1)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the projection, float32 (n, trunk_dim), not normalised. Images as in `encode_image`."""
        with self._autocast():
            return trunk.features(self.model.visual, self._pixels(images)).float()

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast():
            whole, places = parts.of_images(self.model.visual, self._pixels(images))
        return F.normalize(whole.float(), dim=-1), F.normalize(places.float(), dim=-1)

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        with self._autocast():
            embeddings, outputs = stages.outputs(self.model.visual, self._pixels(images))
        return F.normalize(embeddings.float(), dim=-1), tuple(output.float() for output in outputs)

    def text_parts(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast_text():
            whole, words = parts.of_texts(self.model, tokens)
        words = F.normalize(words.float(), dim=-1)
        if words.shape[1] == tokens.shape[1]:
            words = words * texts.words(self.model, tokens)[..., None]
            words = F.pad(words, (0, 0, 0, self.model.context_length - tokens.shape[1]))
        return F.normalize(whole.float(), dim=-1), words

    @torch.no_grad()
    def trunk_dim(self, side: int) -> int:
        """The width of the features of `trunk`, for images of `side` pixels."""
        training = self.training
        features = self.eval().trunk(torch.zeros(1, 3, side, side, device=self.device))
        self.train(training)
        return features.shape[1]

    def cut(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens without the padding that no text of theirs needs; see `bench.models.texts.cut`."""
        return texts.cut(self.model, tokens)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit-length embeddings, float32 (n, d), of tokens, int64 (n, at most the context length)."""
        with self._autocast_text():
            embeddings = texts.encode(self.model, tokens)
        return F.normalize(embeddings.float(), dim=-1)

    def encode_prompts(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.encode_text(tokens)

    def clamp_logit_scale(self) -> None:
        """Clamp the parameter itself, so that it does not drift beyond the range where it has an effect."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=_MAX_LOG_SCALE)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        return ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._half) if self._half else contextlib.nullcontext()

    def _autocast_text(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self.device.type == "cpu" else self._autocast()
