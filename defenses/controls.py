"""Controls: plain CLIP that trains no more than a defended cell did, for telling a method from training less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from bench.api import Budget, Params, Phase, TrainRecipe, TrainSetup
from bench.defenses.clip import CLIP
from bench.registry import register_defense


class ControlParams(Params):
    steps: int = Field(default=0, ge=0, description="steps in all; 0 is as many as the recipe's epochs have")
    pairs: int = Field(default=0, ge=0, description="random pairs that are trained on, the same in each epoch; 0 is all")


class Control(CLIP):
    """Plain CLIP for a number of steps on a random set of pairs, with the recipe's schedule over those steps.

    The steps are spread evenly over as few epochs as hold them; an epoch takes a new random part of the set.
    """

    Params = ControlParams
    params: Any

    def __init__(self, params: ControlParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        size = _size(params, setup.pairs)
        self._set = np.sort(setup.rng("control").permutation(setup.pairs)[:size])
        self._steps = params.steps or setup.epochs * _per_epoch(size, setup.batch_size)

    @classmethod
    def training(cls, params: ControlParams, train: TrainRecipe) -> dict[str, int | float]:
        per_epoch = _per_epoch(_size(params, train.pairs), train.batch_size)
        return {"epochs": -(-params.steps // per_epoch)} if params.steps else {}

    def phases(self, epoch: int) -> Sequence[Phase]:
        fewest, more = divmod(self._steps, self.setup.epochs)
        steps = fewest + (epoch < more)
        order = self.setup.rng(f"control {epoch}").permutation(self._set)
        return (Phase(indices=order[: steps * self.setup.batch_size]),)

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"steps": 5, "pairs": 48}


@register_defense("control_steps")
class ControlSteps(Control):
    """Control: plain CLIP (Radford et al. 2021) with as many steps as a defended cell takes with the CLIP loss."""

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        return {"steps": budget.steps}


@register_defense("control_size")
class ControlSize(Control):
    """Control: plain CLIP (Radford et al. 2021) with as many steps, on as many random pairs as an epoch of these has.

    Pairs are counted in the epochs of a defended cell that have steps with the CLIP loss, on average.
    """

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        return {"steps": budget.steps, "pairs": budget.pairs}


def _size(params: ControlParams, pairs: int) -> int:
    return min(params.pairs or pairs, pairs)


def _per_epoch(pairs: int, batch_size: int) -> int:
    """Steps of an epoch: full batches, or one of all pairs where they fill none."""
    return max(1, pairs // batch_size)
