import math

import pytest

from bench.training.schedule import warmup_cosine


@pytest.mark.parametrize("epochs", [1, 8])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_closed_form(epochs: int, warmup: float) -> None:
    for tick in range(0, 100 * epochs + 1):
        progress = tick / 100
        if progress < warmup:
            expected = progress / warmup
        elif epochs == warmup:
            expected = 1.0 if progress == warmup else 0.0
        else:
            expected = math.cos(math.pi / 2 * (progress - warmup) / (epochs - warmup)) ** 2
        assert warmup_cosine(progress, epochs, warmup) == pytest.approx(expected, abs=1e-12)


def test_ends_and_peak() -> None:
    assert warmup_cosine(0, 8, 0.5) == 0
    assert warmup_cosine(0, 8, 0) == 1
    assert warmup_cosine(0.5, 8, 0.5) == 1
    assert warmup_cosine(4.25, 8, 0.5) == pytest.approx(0.5)
    assert warmup_cosine(8, 8, 0.5) == pytest.approx(0)


def test_a_warm_up_longer_than_the_run_is_a_warm_up_all_along() -> None:
    assert [warmup_cosine(p, 1, 2.0) for p in (0, 0.5, 0.99)] == [0, 0.25, 0.495]
