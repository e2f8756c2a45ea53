from __future__ import annotations

import pytest
import torch
from defense_fakes import Identity, unit
from loss_formulas import dot, eq1

from bench.api import Batch, Phase
from bench.defenses.cyclip import CyCLIP, CyCLIPParams


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize(("in_modal", "cross_modal"), [(0, 0), (0.25, 0), (0, 0.25), (0.25, 0.5)])
def test_loss_against_a_double_loop(size: int, in_modal: float, cross_modal: float) -> None:
    images, texts = unit(size, 5, 0, torch.float64), unit(size, 5, 1, torch.float64)
    i, t = images.tolist(), texts.tolist()
    places = [(j, k) for j in range(size) for k in range(size)]
    within = sum((dot(i[j], i[k]) - dot(t[j], t[k])) ** 2 for j, k in places) / size
    across = sum((dot(i[j], t[k]) - dot(i[k], t[j])) ** 2 for j, k in places) / size
    defense = CyCLIP(CyCLIPParams(in_modal=in_modal, cross_modal=cross_modal), None)  # type: ignore[arg-type]
    views = Batch(torch.arange(size), (images,), (texts,))
    found = defense.loss(views, Identity(0.1, torch.float64), Phase())  # type: ignore[arg-type]
    assert found.item() == pytest.approx(eq1(i, t, 0.1) + in_modal * within + cross_modal * across)
