"""Fine-tuning a poisoned CLIP on clean pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Params, Phase, TrainRecipe, TrainSetup
from bench.defenses.clip import CLIP
from bench.registry import register_defense


class TuningParams(Params):
    clean: float = Field(default=1 / 30, gt=0, le=1, description="trusted clean pairs, as a share of the training pairs")
    epochs: int = Field(default=10, ge=1, description="epochs of fine-tuning")
    step_share: float = Field(
        default=0, ge=0, description="number of steps as a share of the recipe's, in whole epochs; 0: use `epochs`"
    )
    batch_size: int = Field(default=64, ge=2, description="batch size of fine-tuning")
    lr: float = Field(default=0.02, gt=0, description="peak learning rate, as a share of the recipe's")


class FineTuningParams(TuningParams):
    warmup_steps: int = Field(default=50, ge=0, description="steps of linear warm-up")


@register_defense("fine_tuning")
class FineTuning(CLIP):
    """Fine-tunes the poisoned CLIP on clean pairs with the CLIP loss alone (after Bansal et al. 2023, ICCV).

    Fine-tuning starts from plain CLIP trained on the same poisoned pairs. The clean pairs are clean by assumption and disjoint
    from the poisons. Their share, epochs, batch size and learning rate are those of CleanCLIP, without its in-modal loss.

    Deviations:
    - Warm-up is limited to half of the fine-tuning if 50 steps are more than that.
    """

    citations = ("bansal2023cleanclip",)
    Params: ClassVar[type[TuningParams]] = FineTuningParams
    params: Any

    def __init__(self, params: Any, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._clean: NDArray[np.int64] = setup.trusted(max(1, round(params.clean * setup.pairs)))

    @classmethod
    def starts_from(cls) -> str | None:
        return "clip"

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        steps, epochs = duration(params, train)
        return {
            "epochs": epochs,
            "batch_size": params.batch_size,
            "lr": params.lr * train.lr,
            "warmup_epochs": min(params.warmup_steps / steps, epochs / 2),
        }

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("finetune", self._clean, ("plain",)),)


def duration(params: TuningParams, train: TrainRecipe) -> tuple[int, int]:
    """Steps in an epoch of fine-tuning, and epochs."""
    steps = max(1, round(params.clean * train.pairs) // params.batch_size)
    if not params.step_share:
        return steps, params.epochs
    pretraining = train.epochs * max(1, train.pairs // train.batch_size)
    return steps, max(1, int(params.step_share * pretraining / steps + 0.5))
