from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from defense_fakes import FakeScorer, train_setup
from numpy.typing import NDArray

from bench.api import Phase
from bench.defenses import split
from bench.defenses.safeclip import SafeCLIP, SafeCLIPParams

PAIRS, EPOCHS = 200, 20
ONE = 1 / EPOCHS
"""An epoch, as a share of the run."""
STRONG, EDA = ("strong", "strong"), ("eda", "eda")


def _similarities(seed: int = 0, clean: float = 0.4) -> NDArray[np.float32]:
    """A clear mixture: the first pairs are the similar ones, in the share `clean`."""
    rng, upper = np.random.default_rng(seed), round(clean * PAIRS)
    return np.concatenate([rng.normal(0.7, 0.05, upper), rng.normal(0.0, 0.1, PAIRS - upper)]).astype(np.float32)


def _defense(epochs: int = EPOCHS, **params: Any) -> SafeCLIP:
    return SafeCLIP(SafeCLIPParams(**params), train_setup(PAIRS, epochs=epochs))


def _epoch(defense: SafeCLIP, epoch: int, scorer: FakeScorer) -> list[Phase]:
    defense.before_epoch(epoch, scorer)
    phases = list(defense.phases(epoch))
    defense.after_epoch(epoch, scorer)
    return phases


def _run(defense: SafeCLIP, epochs: int, scorer: FakeScorer) -> list[list[Phase]]:
    return [_epoch(defense, epoch, scorer) for epoch in range(epochs)]


def _rows(phase: Phase) -> set[int]:
    assert phase.indices is not None
    assert phase.indices.dtype == np.int64
    return set(phase.indices.tolist())


@pytest.mark.parametrize(("unimodal", "clip"), [(5, 1), (2, 1), (1, 2), (3, 0), (0, 1), (0, 2), (0, 0)])
def test_the_order_of_phases(unimodal: int, clip: int) -> None:
    scorer = FakeScorer(_similarities())
    defense = _defense(unimodal=unimodal * ONE, clip_epochs=clip, unimodal_lr=0.3)
    epochs = _run(defense, unimodal + clip + 3, scorer)
    names = [[phase.name for phase in phases] for phases in epochs]
    assert names == [["unimodal"]] * unimodal + [["low_lr"]] * clip + [["unimodal", "safe"]] * 3
    for (phase,) in epochs[:unimodal]:
        assert (phase.indices, phase.image_views, phase.text_views, phase.lr) == (None, STRONG, EDA, None)
    for (phase,) in epochs[unimodal : unimodal + clip]:
        assert (phase.indices, phase.image_views, phase.text_views) == (None, ("light",), ("plain",))
        assert phase.lr == pytest.approx(0.01 * 1e-3)
    for risky, safe in epochs[unimodal + clip :]:
        assert (risky.image_views, risky.text_views, risky.lr) == (STRONG, EDA, None)
        assert (safe.image_views, safe.text_views, safe.lr) == (("strong",), ("eda",), None)
        assert _rows(risky) | _rows(safe) == set(range(PAIRS))
        assert not _rows(risky) & _rows(safe)
    assert all(phase.lr_share == (0.3 if phase.name == "unimodal" else 1) for phases in epochs for phase in phases)


def test_the_published_defaults() -> None:
    params = SafeCLIPParams()
    assert (params.unimodal, params.clip_epochs, params.low_lr, params.unimodal_lr) == (5 / 48, 1, 0.01, 1)
    assert (params.threshold, params.growth, params.pool, params.largest) == (0.9, 0.48, 256, 1)


# Epochs of unimodal learning, of the CLIP loss at the low rate, and mixed ones, with what each of these adds, by hand.
@pytest.mark.parametrize(
    ("epochs", "unimodal", "mixed", "added"),
    [(48, 5, 42, 0.01), (24, 3, 20, 0.02), (12, 1, 10, 0.04), (6, 1, 4, 0.08), (64, 7, 56, 0.0075), (96, 10, 85, 0.005)],
)
def test_one_schedule_for_any_number_of_epochs(epochs: int, unimodal: int, mixed: int, added: float) -> None:
    scorer, defense = FakeScorer(_similarities()), _defense(epochs)
    first = float((split.fit(scorer.values).posterior > 0.9).mean())
    names: list[list[str]] = []
    shares: list[float] = []
    for epoch in range(epochs):
        phases = _epoch(defense, epoch, scorer)
        names.append([phase.name for phase in phases])
        if epoch > unimodal:
            assert len(_rows(phases[1])) == pytest.approx((first + added * len(shares)) * PAIRS, abs=0.51)
            shares.append(defense.telemetry()["safe_share"])
    assert names == [["unimodal"]] * unimodal + [["low_lr"]] + [["unimodal", "safe"]] * mixed
    assert shares == pytest.approx([first + added * (1 + epoch) for epoch in range(mixed)])


@pytest.mark.parametrize(("unimodal", "count"), [(0, 0), (1e-6, 1), (0.075, 2), (0.0749, 1), (1, 20)])
def test_a_share_of_epochs_is_rounded_and_no_less_than_one(unimodal: float, count: int) -> None:
    defense = _defense(unimodal=unimodal)
    names = [defense.phases(epoch)[0].name for epoch in range(count + 1)]
    assert names == ["unimodal"] * count + ["low_lr"]


def test_the_first_safe_set_is_what_the_mixture_takes_for_clean() -> None:
    values = _similarities()
    safe = _run(_defense(unimodal=0), 2, FakeScorer(values))[1][1]
    assert _rows(safe) == set(np.flatnonzero(split.fit(values).posterior > 0.9).tolist())
    assert len(_rows(safe)) == pytest.approx(0.4 * PAIRS, abs=4)


def test_the_safe_set_grows_with_the_newest_similarities_up_to_the_largest() -> None:
    scorer, defense = FakeScorer(_similarities()), _defense(unimodal=ONE, growth=0.1 * EPOCHS, largest=0.65)
    _run(defense, 2, scorer)
    share = float((split.fit(scorer.values).posterior > 0.9).mean())
    for epoch in range(2, 8):
        scorer.values = _similarities(seed=epoch)
        _epoch(defense, epoch, scorer)
        count = round(min(0.65, share + 0.1 * (epoch - 1)) * PAIRS)
        safe = list(defense.phases(epoch + 1))[1]
        assert _rows(safe) == set(np.argsort(-scorer.values, kind="stable")[:count].tolist())
        assert defense.telemetry()["safe_share"] == pytest.approx(count / PAIRS)


def test_growth_to_everything_leaves_no_risky_pass() -> None:
    epochs = _run(_defense(unimodal=0, clip_epochs=1, growth=0.5 * EPOCHS), 5, FakeScorer(_similarities()))
    assert [phase.name for phase in epochs[-1]] == ["safe"]
    assert len(_rows(epochs[-1][0])) == PAIRS


@pytest.mark.parametrize(("growth", "count"), [(0.05, 10), (0.01, 2), (0.0, 2)])
def test_an_empty_first_safe_set(growth: float, count: int) -> None:
    values = _similarities()
    safe = _run(_defense(unimodal=0, threshold=1.0, growth=growth * EPOCHS), 2, FakeScorer(values))[1][1]
    assert _rows(safe) == set(np.argsort(-values)[:count].tolist())


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_equal_similarities_are_no_disaster(constant: float) -> None:
    defense = _defense(unimodal=ONE)
    epochs = _run(defense, 4, FakeScorer(np.full(PAIRS, constant, dtype=np.float32)))
    assert [phase.name for phase in epochs[2]] == ["unimodal", "safe"]
    assert defense.telemetry()["gmm_degenerate"] == 1
    assert np.isfinite(list(defense.telemetry().values())).all()


def test_without_the_risky_pass_and_without_strong_views() -> None:
    epochs = _run(_defense(unimodal=ONE, risky_unimodal=False, augment_safe=False), 3, FakeScorer(_similarities()))
    assert [phase.name for phase in epochs[2]] == ["safe"]
    assert (epochs[2][0].image_views, epochs[2][0].text_views) == (("light",), ("plain",))


@pytest.mark.parametrize("rescored", [0.3, 0.6])
def test_rescoring_the_most_similar_share_only(rescored: float) -> None:
    scorer, defense = FakeScorer(_similarities()), _defense(unimodal=0, rescored=rescored)
    _run(defense, 1, scorer)
    assert [len(rows) for rows in scorer.asked] == [PAIRS]
    known = scorer.values.copy()
    for epoch in range(1, 4):
        scorer.values = _similarities(seed=epoch)[::-1].copy()
        rows = np.argsort(-known, kind="stable")[: round(rescored * PAIRS)]
        _epoch(defense, epoch, scorer)
        assert sorted(scorer.asked[-1].tolist()) == sorted(rows.tolist())
        known[rows] = scorer.values[rows]
        assert np.array_equal(defense.observed()["similarity"], known)


def test_every_pair_is_scored_anew_by_default_and_none_before_the_split() -> None:
    scorer = FakeScorer(_similarities())
    _run(_defense(unimodal=3 * ONE), 6, scorer)
    assert [rows.tolist() for rows in scorer.asked] == [list(range(PAIRS))] * 3


def test_what_is_observed() -> None:
    defense, scorer = _defense(unimodal=ONE), FakeScorer(_similarities())
    _run(defense, 1, scorer)
    assert (defense.observed().keys(), defense.telemetry()) == ({"image_neighbour", "text_neighbour"}, {})
    _epoch(defense, 1, scorer)
    assert np.array_equal(defense.observed()["similarity"], scorer.values)
    safe = sorted(_rows(list(defense.phases(2))[1]))
    assert np.flatnonzero(defense.observed()["safe"]).tolist() == safe
    told, fit = defense.telemetry(), split.fit(scorer.values)
    assert told["safe_share"] == pytest.approx(defense.observed()["safe"].mean())
    assert (told["gmm_lower_mean"], told["gmm_upper_mean"], told["gmm_lower_weight"]) == (*fit.means, fit.weights[0])
    assert (told["gmm_lower_std"] ** 2, told["gmm_upper_std"] ** 2) == pytest.approx(fit.variances)
    assert told["safe_cut"] == min(scorer.values[row] for row in safe)


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_state_round_trip(epochs: int) -> None:
    params = {"unimodal": ONE, "rescored": 0.5, "growth": 0.05 * EPOCHS}
    scorer, first, second = FakeScorer(_similarities()), _defense(**params), _defense(**params)
    _run(first, epochs, scorer)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for epoch in range(epochs, epochs + 3):
        values = _similarities(seed=10 + epoch)
        both = [_epoch(defense, epoch, FakeScorer(values)) for defense in (first, second)]
        for ours, theirs in zip(*both, strict=True):
            assert ours.name == theirs.name
            assert np.array_equal(ours.indices, theirs.indices)  # type: ignore[arg-type]
        assert first.telemetry() == second.telemetry()
        assert all(np.array_equal(first.observed()[name], second.observed()[name]) for name in first.observed())


class _Learning(FakeScorer):
    """Captions are at a random place until `matched`, then where their images are."""

    matched = False

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        images, _ = super().embeddings(indices)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        return images, images if self.matched else images[order]


@pytest.mark.parametrize(("learned_in", "low"), [(1, 1), (3, 3), (99, 4)])
def test_low_rate_epochs_go_on_until_mismatches_are_told_apart_or_a_quarter_is_over(learned_in: int, low: int) -> None:
    scorer, defense = _Learning(_similarities()), _defense(unimodal=ONE, until_auc=0.75)
    names = []
    for epoch in range(8):
        scorer.matched = epoch >= learned_in
        names.append([phase.name for phase in _epoch(defense, epoch, scorer)])
    assert names == [["unimodal"], *[["low_lr"]] * low, *[["unimodal", "safe"]] * (7 - low)]


def test_an_interrupted_run_knows_how_many_low_rate_epochs_there_were() -> None:
    scorer, params = _Learning(_similarities()), {"unimodal": ONE, "until_auc": 0.75}
    first, second = _defense(**params), _defense(**params)
    _run(first, 3, scorer)
    second.load_state_dict(first.state_dict())
    scorer.matched = True
    for epoch in (3, 4):
        names = [[phase.name for phase in _epoch(defense, epoch, scorer)] for defense in (first, second)]
        assert names[0] == names[1]
    assert names[0] == ["unimodal", "safe"]


def test_a_saved_state_is_not_changed_by_going_on() -> None:
    defense, scorer = _defense(unimodal=0), FakeScorer(_similarities())
    _run(defense, 2, scorer)
    copy = _defense(unimodal=0)
    copy.load_state_dict(defense.state_dict())
    before = copy.observed()["similarity"].copy()
    scorer.values = _similarities(seed=3)
    defense.after_epoch(2, scorer)
    assert np.array_equal(copy.observed()["similarity"], before)
