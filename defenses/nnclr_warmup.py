"""NNCLR warm-up: SafeCLIP's unimodal phase, then plain CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Meaning, Params, Phase, Scorer, Stage
from bench.defenses.unimodal import Unimodal
from bench.registry import register_defense


class NNCLRWarmupParams(Params):
    unimodal: float = Field(default=5 / 48, ge=0, le=1, description="share of the epochs with unimodal learning on all pairs")
    unimodal_lr: float = Field(default=1.0, gt=0, le=1, description="share of the scheduled learning rate in unimodal learning")
    pool: int = Field(default=256, ge=1, description="pool size, in embeddings of each modality")


@register_defense("nnclr_warmup")
class NNCLRWarmup(Unimodal):
    """Unimodal learning with nearest neighbours, then plain CLIP on all pairs (NNCLR, Dwibedi et al. 2021, ICCV).

    SafeCLIP's warm-up (Yang et al. 2024, Eq. 2) with its share of the epochs, views and pool, and without the split: an
    ablation that shows how much of SafeCLIP's effect is the warm-up's.

    Deviations from NNCLR:
    - As in SafeCLIP, there is no projection head, both modalities are trained, and the loss has one direction.
    """

    citations = ("dwibedi2021nnclr", "yang2024safeclip")
    Params = NNCLRWarmupParams
    params: NNCLRWarmupParams

    @classmethod
    def meaning(cls, params: NNCLRWarmupParams) -> Meaning:
        return Meaning(stages=(Stage(name="unimodal", phase="unimodal"), Stage(name="CLIP", phase="train", updates=True)))

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        self._forget_neighbours()
        self._fill_pools(scorer)

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (self._unimodal(None),) if epoch < self._unimodal_epochs else (Phase(),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return self._unimodal_loss(batch, encoder) if phase.name == "unimodal" else super().loss(batch, encoder, phase)
