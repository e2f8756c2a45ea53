"""A trained model for evaluation, which caches features and classifiers."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bench.api import Images, Vocabulary
from bench.data.augment import to_float
from bench.models.encoder import ClipEncoder
from bench.models.word_tokenizer import Tokenizer

_BATCH = 512


class FrozenClip:
    """An encoder in evaluation mode with cached image features and classifiers; see `bench.api.FrozenModel`."""

    def __init__(self, encoder: ClipEncoder, tokenizer: Tokenizer) -> None:
        self._encoder = encoder.eval()
        self._tokenizer = tokenizer
        self._features: weakref.WeakKeyDictionary[Images, torch.Tensor] = weakref.WeakKeyDictionary()
        self._classifiers: dict[Vocabulary, torch.Tensor] = {}

    @torch.no_grad()
    def image_features(self, images: Images) -> torch.Tensor:
        """Unit-length embeddings of all images, cached: float32 (n, d) on the CPU."""
        if images not in self._features:
            chunks = [
                self._encoder.encode_image(to_float(images.load(rows).to(self._encoder.device))).cpu()
                for rows in _chunks(len(images))
            ]
            self._features[images] = torch.cat(chunks) if chunks else torch.empty(0, 0)
        return self._features[images]

    @torch.no_grad()
    def classifier(self, vocabulary: Vocabulary) -> torch.Tensor:
        """Zero-shot class embeddings, cached: float32 (classes, d) on the CPU."""
        if vocabulary not in self._classifiers:
            prompts = [prompt for prompts in vocabulary.prompts() for prompt in prompts]
            grouped = self.text_features(prompts).view(len(vocabulary.names), len(vocabulary.templates), -1)
            self._classifiers[vocabulary] = F.normalize(grouped.mean(dim=1), dim=-1)
        return self._classifiers[vocabulary]

    @torch.no_grad()
    def text_features(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit-length embeddings of captions: float32 (n, d) on the CPU."""
        tokens = self._tokenizer(captions)
        chunks = [
            self._encoder.encode_text(self._encoder.cut(tokens[torch.from_numpy(rows)]).to(self._encoder.device)).cpu()
            for rows in _chunks(len(captions))
        ]
        return torch.cat(chunks)


class FrozenSurrogate:
    """An encoder in evaluation mode whose parameters have no gradient, for attacks; see `bench.api.Surrogate`."""

    def __init__(self, encoder: ClipEncoder, tokenizer: Tokenizer) -> None:
        self._encoder = encoder.eval().requires_grad_(False)
        self._tokenizer = tokenizer

    def digest(self) -> str:
        """sha256 over the model's weights and buffers."""
        found = hashlib.sha256()
        for name, tensor in sorted(self._encoder.model.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Unit-length embeddings of images in [0, 1], with gradient: float32 (n, d) on the device of the images."""
        return self._encoder.encode_image(images.to(self._encoder.device)).to(images.device)

    @torch.no_grad()
    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit-length embeddings of captions: float32 (n, d) on the CPU."""
        return self._encoder.encode_text(self._encoder.cut(self._tokenizer(captions)).to(self._encoder.device)).cpu()


def _chunks(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]
