"""The meaning of a defense's telemetry, declared so that reports need not know the defense."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class Mixture(_Part):
    """Telemetry names of a two-component Gaussian mixture fitted to the similarities of all pairs.

    The two weights sum to 1. `degenerate` is 1 if the fit failed, else 0.
    """

    lower_mean: str
    lower_std: str
    lower_weight: str
    upper_mean: str
    upper_std: str
    degenerate: str


class Stage(_Part):
    """A kind of epoch: one with steps in `phase` and none in the phase of a later stage.

    Attributes
    ----------
    name : str
        Its name in suites, as in the metric time.NAME.
    phase : str
    updates : bool
        Whether the safe set is updated at its end, which reports time separately.
    """

    name: str
    phase: str
    updates: bool = False


class Meaning(_Part):
    """Names of numbers in `Defense.telemetry`; empty if a defense has no such number.

    Attributes
    ----------
    safe_share : str
        Share of the pairs in the safe set, in [0, 1], in epochs that end with an update of it.
    safe_cut : str
        Smallest similarity in the safe set.
    mixture : Mixture, optional
        The mixture that the safe set was chosen by.
    stages : sequence of Stage
        Kinds of epochs that reports time, in order.
    lr_shares : sequence of str
        Parameters that are multiples of the recipe's learning rate.
    """

    safe_share: str = ""
    safe_cut: str = ""
    mixture: Mixture | None = None
    stages: Sequence[Stage] = ()
    lr_shares: Sequence[str] = ()
