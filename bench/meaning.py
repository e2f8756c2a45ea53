"""What a defense's telemetry means, for reports that know no defense."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class Mixture(_Part):
    """A mixture of two Gaussians fitted to the similarities of all pairs, by the names of its numbers in the telemetry.

    The weights of both sum to 1. `degenerate` is 1 where no mixture could be fitted, else 0.
    """

    lower_mean: str
    lower_std: str
    lower_weight: str
    upper_mean: str
    upper_std: str
    degenerate: str


class Stage(_Part):
    """A kind of epochs: those that have steps in `phase` and none in the phase of a later stage.

    name: what a suite calls it, as in the metric time.NAME; updates: at their end the safe set is chosen anew, which reports
    time apart.
    """

    name: str
    phase: str
    updates: bool = False


class Meaning(_Part):
    """Names in `Defense.telemetry`; empty where a defense has no such number.

    safe_share: the share of the pairs that are in the safe set, in [0, 1], of epochs that end with a choice of it; safe_cut:
    the least similarity in it; mixture: what it was chosen by. stages: kinds of epochs that reports time, in their order.
    lr_shares: parameters that are shares of the recipe's learning rate.
    """

    safe_share: str = ""
    safe_cut: str = ""
    mixture: Mixture | None = None
    stages: Sequence[Stage] = ()
    lr_shares: Sequence[str] = ()
