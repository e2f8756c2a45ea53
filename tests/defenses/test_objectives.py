"""Training objectives beside CLIP's, against sums over single pairs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defense_fakes import DIM, FakeEncoder, FakeScorer, batch, text_embedding, train_setup, unit
from loss_formulas import Rows, dot, eq1, nearest, nearest_rows, one_way

from bench.defenses.declip import DeCLIP, DeCLIPParams
from bench.defenses.early_loss import EarlyLoss, EarlyLossParams
from bench.defenses.heads import mlp
from bench.defenses.losses import nt_xent, pair_losses
from bench.defenses.nnclr_warmup import NNCLRWarmup, NNCLRWarmupParams
from bench.defenses.slip import SLIP, SLIPParams

TAU = 0.1


class _WithTrunk(FakeEncoder):
    """The trunk is what the image embedding is before it is normalised."""

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.image


def _scorer(pairs: int = 40) -> FakeScorer:
    return FakeScorer(np.zeros(pairs, dtype=np.float32))


def _simclr(one: Rows, other: Rows, tau: float) -> float:
    """Chen et al. 2020, Algorithm 1: 2N rows, the positive is the other view, all but the row itself are below the bar."""
    rows = [*one, *other]
    n, total = len(one), 0.0
    for i, row in enumerate(rows):
        below = math.fsum(math.exp(dot(row, each) / tau) for k, each in enumerate(rows) if k != i)
        total -= math.log(math.exp(dot(row, rows[(i + n) % (2 * n)]) / tau) / below)
    return total / (2 * n)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_simclr_against_algorithm_1(size: int) -> None:
    one, other = unit(size, 5, 0), unit(size, 5, 1)
    assert nt_xent(one, other, 10).item() == pytest.approx(_simclr(one.tolist(), other.tolist(), TAU), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_slip(weight: float) -> None:
    defense, encoder = SLIP(SLIPParams(weight=weight, hidden=6, projection=3), train_setup()), _WithTrunk()
    views = batch(5, 3, 1)
    with torch.no_grad():
        image, text = encoder.encode_image(views.images[0]).tolist(), encoder.encode_text(views.texts[0]).tolist()
        heads = [F.normalize(defense._head(encoder.trunk(view)), dim=-1).tolist() for view in views.images[1:]]
    found = defense.loss(views, encoder, defense.phases(0)[0])  # type: ignore[arg-type]
    assert found.item() == pytest.approx(eq1(image, text, TAU) + weight * _simclr(*heads, TAU), rel=1e-4)


def test_a_head_normalises_between_its_layers() -> None:
    names = [type(layer).__name__ for layer in mlp(2, 3, 4, 5)]
    assert names == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in mlp(2, 3, last_norm=True)] == ["Linear", "BatchNorm1d"]
    assert mlp(2, 3, 4, 5)(torch.ones(6, 2)).shape == (6, 5)


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("weights", [(0.4, 0, 0), (0, 0.2, 0), (0, 0, 0.2), (0.4, 0.2, 0.2)])
def test_declip(weights: tuple[float, float, float], as_released: bool) -> None:
    params = DeCLIPParams(
        views=weights[0], neighbours=weights[1], simsiam=weights[2], bank=0.3, hidden=6, bottleneck=3, as_released=as_released
    )
    defense, encoder, views, scorer = DeCLIP(params, train_setup(40)), FakeEncoder(), batch(5), _scorer()
    defense.before_epoch(0, scorer)
    (chosen,) = scorer.embedded
    assert len(chosen) == 12
    bank = text_embedding(chosen).tolist()
    with torch.no_grad():
        images = [encoder.encode_image(view) for view in views.images]
        texts = [encoder.encode_text(view).tolist() for view in views.texts]
        projections = [defense._projector(image) for image in images]
        predictions = [defense._predictor(each) for each in projections]
    places = [(image.tolist(), text) for image, text in product(images, texts)]
    clip = sum(eq1(image, text, TAU) for image, text in places) / 4
    side = one_way if as_released else eq1
    near = sum(side(image, nearest(text, bank).tolist(), TAU) for image, text in places) / 4
    cosines = [
        dot(p, z) / math.hypot(*p) / math.hypot(*z)
        for prediction, projection in zip(predictions, projections[::-1], strict=True)
        for p, z in zip(prediction.tolist(), projection.tolist(), strict=True)
    ]
    expected = weights[0] * clip + weights[1] * near - weights[2] * sum(cosines) / len(cosines)
    found = defense.loss(views, encoder, defense.phases(0)[0])  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-4)
    held = sorted(defense._bank.embeddings.tolist())
    assert np.array(held) == pytest.approx(np.array(sorted([*bank[10:], *texts[0], *texts[1]])), abs=1e-6)


def test_declip_sends_no_gradient_into_a_projection() -> None:
    """Where the prediction is all that the loss reaches, the projector learns through it alone."""
    params = DeCLIPParams(views=0, neighbours=0, simsiam=1, hidden=6, bottleneck=3)
    defense = DeCLIP(params, train_setup(40))
    torch.nn.init.zeros_(defense._predictor[0].weight)  # type: ignore[arg-type]
    images = [unit(5, DIM, seed).requires_grad_() for seed in (0, 1)]
    defense._simsiam(images).backward()
    assert all(image.grad is not None and not image.grad.any() for image in images)


@pytest.mark.parametrize("epochs", [8, 48])
def test_nnclr_warmup_is_safeclip_s_first_phase(epochs: int) -> None:
    defense, encoder = NNCLRWarmup(NNCLRWarmupParams(pool=9), train_setup(epochs=epochs)), FakeEncoder()
    views, scorer = batch(5), _scorer()
    warmup = round(epochs * 5 / 48)
    names = [defense.phases(epoch)[0].name for epoch in range(epochs)]
    assert names == ["unimodal"] * warmup + ["train"] * (epochs - warmup)
    assert {phase.indices is None for epoch in range(epochs) for phase in defense.phases(epoch)} == {True}
    defense.before_epoch(0, scorer)
    pools = [pool.embeddings.tolist() for pool in defense._pools.values()]
    with torch.no_grad():
        images = [encoder.encode_image(view).tolist() for view in views.images]
        texts = [encoder.encode_text(view).tolist() for view in views.texts]
    expected = sum(
        one_way(nearest(rows[0], pool).tolist(), rows[1], TAU) for rows, pool in zip((images, texts), pools, strict=True)
    )
    found = defense.loss(views, encoder, defense.phases(0)[0])  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert encoder.scale.grad is None
    loss = defense.loss(views, encoder, defense.phases(epochs - 1)[0])  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(eq1(images[0], texts[0], TAU), rel=1e-4)
    (chosen,) = scorer.embedded
    assert defense.observed()["image_neighbour"][:5].tolist() == [chosen[row] for row in nearest_rows(images[0], pools[0])]


def test_pair_losses_average_to_the_clip_loss() -> None:
    images, texts = unit(7, 5, 0, torch.float64), unit(7, 5, 1, torch.float64)
    found = pair_losses(images, texts, torch.tensor(10.0, dtype=torch.float64))
    assert found.mean().item() == pytest.approx(eq1(images.tolist(), texts.tolist(), TAU))
    logits = (10 * images @ texts.T).numpy()
    own = [2 * logits[i, i] - math.log(np.exp(logits[i]).sum()) - math.log(np.exp(logits[:, i]).sum()) for i in range(7)]
    assert found.tolist() == pytest.approx([-each / 2 for each in own])


def test_early_loss_drops_what_was_learned_first() -> None:
    defense, encoder = EarlyLoss(EarlyLossParams(early=0.25, drop=0.2), train_setup(10, epochs=8)), FakeEncoder()
    sums: dict[int, list[float]] = {}
    for epoch, pairs in enumerate(([0, 1, 2, 3, 4], [5, 6, 7, 8, 0])):
        (phase,) = defense.phases(epoch)
        assert (phase.indices, defense.observed(), defense.telemetry()) == (None, {}, {})
        views = batch(5, 1, 1, seed=epoch, pairs=np.array(pairs))
        found = defense.loss(views, encoder, phase)
        with torch.no_grad():
            losses = pair_losses(
                encoder.encode_image(views.images[0]), encoder.encode_text(views.texts[0]), encoder.logit_scale
            )
        assert found.item() == pytest.approx(losses.mean().item())
        for pair, loss in zip(pairs, losses.tolist(), strict=True):
            sums.setdefault(pair, []).append(loss)
        defense.after_epoch(epoch, _scorer())
    means = {pair: sum(losses) / len(losses) for pair, losses in sums.items()}
    scores = defense.scores()
    assert math.isnan(scores[9])
    assert scores[:9].tolist() == pytest.approx([-means[pair] for pair in range(9)], rel=1e-5)
    dropped = sorted(means, key=means.__getitem__)[:2]
    fresh = EarlyLoss(defense.params, defense.setup)
    fresh.load_state_dict(defense.state_dict())
    for each in (defense, fresh):
        assert sorted(np.flatnonzero(~each.observed()["safe"])) == sorted(dropped)
        assert sorted({*range(10)} - {*each.phases(2)[0].indices.tolist()}) == sorted(dropped)  # type: ignore[union-attr]
        assert each.telemetry() == {"safe_share": 0.8, "dropped": 2}
        assert np.array_equal(each.scores(), scores, equal_nan=True)
