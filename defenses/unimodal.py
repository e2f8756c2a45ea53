"""Unimodal learning with nearest neighbours: each modality is contrasted with what a pool holds that is most like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.api import Batch, Encoder, Params, Phase, Scorer, TrainSetup
from bench.defenses.clip import CLIP
from bench.defenses.losses import nn_contrastive_loss
from bench.defenses.pool import Pool


class Unimodal(CLIP):
    """Holds a pool of embeddings of each modality; its `params` have `pool`, `unimodal` and `unimodal_lr`."""

    params: Any

    def __init__(self, params: Params, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._pools = {name: Pool(self.params.pool, setup.embed_dim, setup.device) for name in ("image", "text")}
        self._found = {name: torch.full((setup.pairs,), -1, device=setup.device) for name in self._pools}

    @property
    def _unimodal_epochs(self) -> int:
        share = self.params.unimodal
        return max(1, int(share * self.setup.epochs + 0.5)) if share else 0

    def _unimodal(self, indices: NDArray[np.int64] | None) -> Phase:
        share = self.params.unimodal_lr
        return Phase("unimodal", indices, ("strong", "strong"), ("eda", "eda"), lr_share=share, clip_loss=False)

    def _forget_neighbours(self) -> None:
        for found in self._found.values():
            found.fill_(-1)

    def _fill_pools(self, scorer: Scorer) -> None:
        """With random pairs' embeddings, where the pools are empty."""
        if len(self._pools["image"]):
            return
        chosen = self.setup.rng("pool").permutation(self.setup.pairs)[: self.params.pool]
        images, texts = scorer.embeddings(chosen)
        pairs = torch.from_numpy(chosen).to(self.setup.device)
        self._pools["image"].push(images, pairs)
        self._pools["text"].push(texts, pairs)

    def _unimodal_loss(self, batch: Batch, encoder: Encoder) -> torch.Tensor:
        """Eq. 2 of Yang et al. 2024 of both modalities, summed; the first views find the neighbours, without gradient."""
        scale = encoder.logit_scale.detach()
        with torch.no_grad():
            first_images = encoder.encode_image(batch.images[0])
            first_texts = encoder.encode_text(batch.texts[0])
        images = encoder.encode_image(batch.images[1])
        texts = encoder.encode_text(batch.texts[1])
        image_neighbours = self._neighbours("image", first_images, batch.indices)
        text_neighbours = self._neighbours("text", first_texts, batch.indices)
        return nn_contrastive_loss(image_neighbours, images, scale) + nn_contrastive_loss(text_neighbours, texts, scale)

    def _neighbours(self, modality: str, anchors: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """The pool's nearest embeddings; the batch enters the pool afterwards."""
        neighbours, self._found[modality][pairs] = self._pools[modality].nearest(anchors)
        self._pools[modality].push(anchors, pairs)
        return neighbours

    def observed(self) -> dict[str, NDArray[Any]]:
        return {f"{modality}_neighbour": pairs.cpu().numpy() for modality, pairs in self._found.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"pools": {name: pool.state_dict() for name, pool in self._pools.items()}, "found": self._found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, pool in self._pools.items():
            pool.load_state_dict(state["pools"][name])
        for name, found in self._found.items():
            found.copy_(state["found"][name])
