from __future__ import annotations

import numpy as np
import pytest
import torch
from defense_fakes import FakeEncoder, batch, train_setup
from loss_formulas import eq1

from bench.api import TrainRecipe
from bench.defenses.cleanclip import CleanCLIP, CleanCLIPParams
from bench.defenses.fine_tuning import FineTuning, FineTuningParams

TRUSTED = np.array([3, 4, 9, 17, 21, 30, 31, 39])


def test_the_clip_loss_alone_on_trusted_pairs() -> None:
    defense, encoder, views = (
        FineTuning(FineTuningParams(clean=0.1), train_setup(40, lambda count: TRUSTED[:count])),
        FakeEncoder(),
        batch(6, 1, 1),
    )
    (phase,) = defense.phases(2)
    assert phase.indices is not None
    assert phase.indices.tolist() == [3, 4, 9, 17]
    assert (phase.image_views, phase.text_views, phase.lr) == (("plain",), ("plain",), None)
    with torch.no_grad():
        images, texts = encoder.encode_image(views.images[0]).tolist(), encoder.encode_text(views.texts[0]).tolist()
    assert defense.loss(views, encoder, phase).item() == pytest.approx(eq1(images, texts, 0.1), rel=1e-4)


def test_it_is_cleanclip_without_the_in_modal_losses() -> None:
    recipe = TrainRecipe(pairs=3_000_000, epochs=64, lr=5e-4, batch_size=1024)
    told = FineTuning.training(FineTuningParams(), recipe)
    assert told == CleanCLIP.training(CleanCLIPParams(), recipe)
    assert told == {"epochs": 10, "batch_size": 64, "lr": pytest.approx(1e-5), "warmup_epochs": pytest.approx(50 / 1562)}
    assert FineTuning.starts_from() == "clip"
