"""The API of models in training: what a defense may ask of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Encoder(Protocol):
    """A CLIP model on its device. Embeddings are float32 (n, d) and of unit length.

    On several ranks it takes all of this rank's rows of a batch's view, and returns the embeddings of the whole batch.
    """

    @property
    def logit_scale(self) -> torch.Tensor:
        """The inverse temperature, exp of the learned parameter, at most 100; a scalar with gradient."""
        ...

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (n, 3, side, side) in [0, 1]."""
        ...

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int64 (n, length)."""
        ...

    def encode_prompts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int64 (n, length) of texts beside the batch, the same on every rank."""
        ...

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings, and those of the places of a grid over the image: float32 (n, d) and (n, places, d), of unit length.

        Places are patches of a ViT, or a residual network's last stage; one, the whole, where the tower does not show them.
        """
        ...

    def text_parts(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings, and those of the tokens: float32 (n, d) and (n, context length, d), of unit length.

        0 where there is no token; one, the whole, where the tower does not show them.
        """
        ...

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """The features before the projection into the joint space: float32 (n, `TrainSetup.trunk_dim`), not normalised.

        For a ViT the pooled token, for a ResNet the spatial mean of its last stage. Images as in `encode_image`.
        """
        ...

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Embeddings, and the outputs of the image tower's stages: float32 (n, d) and (n, ...) each, from the first on.

        Stages of a residual network, blocks of a ViT; one, the features of `trunk`, where the tower does not show them.
        """
        ...


class Scorer(Protocol):
    """Embeds training pairs, unaugmented and in evaluation mode."""

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Cosine similarity of image and caption of the given pairs, by default all: float32 (n,)."""
        ...

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and text embeddings of the given pairs: float32 (n, d) each, unit rows."""
        ...

    def images(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Images of the given pairs: float32 (n, 3, side, side) in [0, 1], on the device."""
        ...

    def classes(self) -> torch.Tensor:
        """Zero-shot embeddings of the data set's classes, from their prompts: float32 (classes, d), unit rows."""
        ...

    def frozen(self) -> AbstractContextManager[Encoder]:
        """The model in evaluation mode and float32, without gradient in its parameters; on several ranks, each has it whole."""
        ...
