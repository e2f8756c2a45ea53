"""What an attack's probe images were given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.api import EvalContext, Pairs, Predictions, Probe


def answers(ctx: EvalContext, predicted: NDArray[np.int64], clean: NDArray[np.int64]) -> Predictions:
    """What the model and the clean model gave each probe, int64 (probes,), beside what is true and what the adversary wants."""
    return Predictions(
        task="all",
        classes=ctx.bundle.vocabulary.names,
        uids=uids(ctx),
        predicted=predicted,
        predicted_clean=clean,
        true=np.array([(*members, -1)[0] for members in _shown(ctx)]),
        target=np.array([probe.label for probe in ctx.probes]),
        correct=right(ctx, predicted)[1],
        groups=groups(ctx),
    )


def right(ctx: EvalContext, predicted: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether it is known what each probe shows, and whether the prediction is one of these classes: bool (probes,) each."""
    shown = _shown(ctx)
    hits = [answer in members for answer, members in zip(predicted, shown, strict=True)]
    return np.array([bool(members) for members in shown]), np.array(hits)


def uids(ctx: EvalContext) -> list[str]:
    """The ids of the images that the probes are made of."""
    return [_pairs(ctx, probe).uids[probe.index] for probe in ctx.probes]


def groups(ctx: EvalContext) -> list[str]:
    """The trigger of each probe; the number of the target image where there is none."""
    return [str(number) if probe.edit is None else probe.group for number, probe in enumerate(ctx.probes)]


def _shown(ctx: EvalContext) -> list[tuple[int, ...]]:
    return [_pairs(ctx, probe).members[probe.index] for probe in ctx.probes]


def _pairs(ctx: EvalContext, probe: Probe) -> Pairs:
    return ctx.bundle.holdout if probe.split == "holdout" else ctx.bundle.test
