"""Controls: plain CLIP with the training budget of a defense, to separate the effect of a method from that of less training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from bench.api import Budget, Params, Phase, TrainRecipe, TrainSetup
from bench.defenses.clip import CLIP
from bench.registry import register_defense


class ControlParams(Params):
    steps: int = Field(default=0, ge=0, description="number of steps; 0: those of the recipe's epochs")
    pairs: int = Field(default=0, ge=0, description="size of the random training subset, fixed for the run; 0: all pairs")


class Control(CLIP):
    """Plain CLIP for a given number of steps on a random subset of the pairs, with the recipe's schedule over these steps.

    The steps are spread evenly over the smallest sufficient number of epochs; each epoch uses a new random part of the subset.
    """

    Params = ControlParams
    params: Any

    def __init__(self, params: ControlParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        size = _size(params, setup.pairs)
        self._subset = np.sort(setup.rng("control").permutation(setup.pairs)[:size])
        self._steps = params.steps or setup.epochs * _per_epoch(size, setup.batch_size)

    @classmethod
    def training(cls, params: ControlParams, train: TrainRecipe) -> dict[str, int | float]:
        per_epoch = _per_epoch(_size(params, train.pairs), train.batch_size)
        return {"epochs": -(-params.steps // per_epoch)} if params.steps else {}

    def phases(self, epoch: int) -> Sequence[Phase]:
        fewest, more = divmod(self._steps, self.setup.epochs)
        steps = fewest + (epoch < more)
        order = self.setup.rng(f"control {epoch}").permutation(self._subset)
        return (Phase(indices=order[: steps * self.setup.batch_size]),)

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"steps": 5, "pairs": 48}


@register_defense("control_steps")
class ControlSteps(Control):
    """Control: plain CLIP (Radford et al. 2021) with as many steps as a defense takes with the CLIP loss.

    Run by `--controls`. The difference to plain CLIP is due to fewer steps, not to the defense.
    """

    citations = ("radford2021clip",)

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        return {"steps": budget.steps}


@register_defense("control_size")
class ControlSize(Control):
    """Control: plain CLIP (Radford et al. 2021) with as many steps and on as many pairs as a defense uses for the CLIP loss.

    The pairs are a random subset; its size is the mean over the defense's epochs with steps of the CLIP loss. Run by
    `--controls`. The difference to `control_steps` is due to fewer pairs, not to the defense.
    """

    citations = ("radford2021clip",)

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        return {"steps": budget.steps, "pairs": budget.pairs}


def _size(params: ControlParams, pairs: int) -> int:
    return min(params.pairs or pairs, pairs)


def _per_epoch(pairs: int, batch_size: int) -> int:
    """Steps of an epoch: the number of full batches, at least 1."""
    return max(1, pairs // batch_size)
