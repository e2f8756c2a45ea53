"""The precision that `--precision auto` stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NO_BF16 = "This CPU has no bf16 instructions"


def resolve(precision: str, settings: Sequence[str], device: torch.device) -> str | None:
    """The precision to request; None is the recipe's.

    `auto` is the recipe's, but fp32 on a CPU that only emulates bf16, where it is several times as fast; `settings` that name a
    precision (PATH=VALUE) come first.
    """
    from bench.matrix.device import emulates_bf16

    if precision != "auto":
        return precision
    named = any(each.startswith("train.precision=") for each in settings)
    return "fp32" if emulates_bf16(device) and not named else None
