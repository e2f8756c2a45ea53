"""DeCLIP: CLIP with multi-view, nearest-neighbour and image self-supervision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import Batch, Encoder, Params, Phase, Scorer, TrainSetup
from bench.defenses.clip import CLIP
from bench.defenses.heads import mlp
from bench.defenses.losses import clip_loss, contrast
from bench.defenses.pool import Pool
from bench.registry import register_defense


class DeCLIPParams(Params):
    views: float = Field(default=0.4, ge=0, description="weight of the CLIP loss of two image views and two captions")
    neighbours: float = Field(default=0.2, ge=0, description="weight of the loss with the captions' nearest neighbours")
    simsiam: float = Field(default=0.2, ge=0, description="weight of SimSiam's loss of the image views")
    bank: float = Field(default=0.0044, gt=0, le=1, description="size of the bank of captions, as a share of the pairs")
    hidden: int = Field(default=1024, ge=1, description="width of SimSiam's projector")
    bottleneck: int = Field(default=512, ge=1, description="hidden width of its predictor")
    as_released: bool = Field(default=False, description="compute the nearest-neighbour loss from image to text only")


@register_defense("declip")
class DeCLIP(CLIP):
    """CLIP with multi-view, nearest-neighbour and image self-supervision (Li et al. 2022, ICLR).

    0.4 L_views + 0.2 L_neighbours + 0.2 L_SimSiam: the mean CLIP loss of two strongly augmented images and a caption with its
    EDA version; the same with each caption replaced by the nearest embedding in a first-in, first-out bank of captions (65,536
    of 15M); negative cosine similarity between the prediction of one view and the detached projection of the other. The paper
    does not propose it as a defense. Like RoCLIP it uses captions of other pairs, but finds them by the caption.

    Deviations:
    - There is no masked language loss (weight 0.2), since encoders here have no token outputs for it.
    - SimSiam's head is on unit-length embeddings.
    - The bank starts with captions of random pairs, not with noise.
    - The nearest-neighbour loss has both directions; in the released code, and with `as_released`, only image to text.
    - The optimiser is the recipe's.
    """

    citations = ("li2022declip",)
    Params = DeCLIPParams
    params: DeCLIPParams

    def __init__(self, params: DeCLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._projector = mlp(setup.embed_dim, params.hidden, params.hidden, params.hidden, last_norm=True)
        self._predictor = mlp(params.hidden, params.bottleneck, params.hidden)
        self._bank = Pool(max(1, round(params.bank * setup.pairs)), setup.embed_dim, setup.device)

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        if not len(self._bank):
            chosen = self.setup.rng("bank").permutation(self.setup.pairs)[: len(self._bank.embeddings)]
            self._bank.push(scorer.embeddings(chosen)[1], torch.from_numpy(chosen).to(self.setup.device))

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase(image_views=("strong", "strong"), text_views=("plain", "eda")),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        scale = encoder.logit_scale
        images = [encoder.encode_image(view) for view in batch.images]
        texts = [encoder.encode_text(view) for view in batch.texts]
        neighbours = [self._bank.nearest(text)[0] for text in texts]
        for text in reversed(texts):
            self._bank.push(text, batch.indices)
        side = contrast if self.params.as_released else clip_loss
        views = sum(clip_loss(image, text, scale) for image, text in product(images, texts)) / 4
        nearest = sum(side(image, text, scale) for image, text in product(images, neighbours)) / 4
        return self.params.views * views + self.params.neighbours * nearest + self.params.simsiam * self._simsiam(images)

    def _simsiam(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        one, other = (self._projector(image) for image in images)
        cosines = [F.cosine_similarity(self._predictor(a), b.detach()).mean() for a, b in ((one, other), (other, one))]
        return -(cosines[0] + cosines[1]) / 2

    def state_dict(self) -> dict[str, Any]:
        return {"bank": self._bank.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._bank.load_state_dict(state["bank"])
