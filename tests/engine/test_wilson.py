import numpy as np
import pytest
from scipy.stats import binomtest

from bench.api import share, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_published_values(successes: int, n: int, low: float, high: float) -> None:
    """The last is of Newcombe, Statistics in Medicine 17 (1998), table I."""
    assert wilson(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_against_scipy() -> None:
    for n in (1, 2, 7, 50, 1000):
        for successes in sorted({0, 1, n // 3, n // 2, n - 1, n}):
            expected = binomtest(successes, n).proportion_ci(method="wilson")
            assert wilson(successes, n) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))


def test_nothing_measured() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no image"):
        share("top1", "object", np.array([], dtype=bool))


def test_share() -> None:
    found = share("top1", "object", np.array([True, False, False, True, False]))
    assert (found.value, found.n) == (0.4, 5)
    assert (found.ci_low, found.ci_high) == wilson(2, 5)
