"""Early loss: drops the pairs that are learned fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Batch, Encoder, Limit, Meaning, Params, Phase, Scorer, TrainSetup
from bench.defenses import split
from bench.defenses.clip import CLIP
from bench.defenses.losses import pair_losses
from bench.registry import register_defense


class EarlyLossParams(Params):
    early: float = Field(default=10 / 32, gt=0, lt=1, description="share of the epochs in which losses are averaged")
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of the pairs dropped, those with the lowest loss")


@register_defense("early_loss")
class EarlyLoss(CLIP):
    """Drops the pairs with the lowest loss in the first epochs, and trains on the rest (after ABL, Li et al. 2021, NeurIPS).

    Poisons are learned faster than clean data. The score of a pair is its negated CLIP loss, averaged over the first epochs, 10
    of 32 as in Huang et al. 2025. The share that is dropped is as reconstructed.

    Deviations:
    - From ABL: no gradient ascent keeps losses up (its LGA), and the isolated pairs are left out, not unlearned.
    - From Huang et al.: training continues from the first epochs; it does not start again.
    - The loss of a pair depends on the other pairs of its batch.
    """

    citations = ("li2021abl", "huang2025dao")
    Params = EarlyLossParams
    params: EarlyLossParams

    def __init__(self, params: EarlyLossParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._early_epochs = max(1, round(params.early * setup.epochs))
        self._sums = torch.zeros(setup.pairs, device=setup.device)
        self._seen = torch.zeros(setup.pairs, device=setup.device)
        self._kept: NDArray[np.bool_] | None = None

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        return (Limit("dropped", "last", "number of pairs dropped", "raise drop", low=1, unit=""),)

    @classmethod
    def meaning(cls, params: Any) -> Meaning:
        return Meaning(safe_share="safe_share")

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("early"),) if self._kept is None else (Phase(indices=np.flatnonzero(self._kept)),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        if phase.name != "early":
            return super().loss(batch, encoder, phase)
        images, texts = encoder.encode_image(batch.images[0]), encoder.encode_text(batch.texts[0])
        losses = pair_losses(images, texts, encoder.logit_scale)
        self._sums[batch.indices] += losses.detach()
        self._seen[batch.indices] += 1
        return losses.mean()

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        if epoch + 1 == self._early_epochs:
            losses = np.nan_to_num(-self.scores(), nan=np.inf)
            self._kept = split.top(losses, 1 - self.params.drop)

    def scores(self) -> NDArray[np.float32]:
        return -(self._sums / self._seen).cpu().numpy()

    def observed(self) -> dict[str, NDArray[Any]]:
        return {} if self._kept is None else {"safe": self._kept}

    def telemetry(self) -> dict[str, float]:
        if self._kept is None:
            return {}
        return {"safe_share": float(self._kept.mean()), "dropped": int((~self._kept).sum())}

    def state_dict(self) -> dict[str, Any]:
        kept = {} if self._kept is None else {"kept": torch.from_numpy(self._kept)}
        return {"sums": self._sums, "seen": self._seen, **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums.copy_(state["sums"])
        self._seen.copy_(state["seen"])
        self._kept = state["kept"].numpy().copy() if "kept" in state else None
