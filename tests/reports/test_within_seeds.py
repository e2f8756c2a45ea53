"""Two defenses on the same probes, in the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from bench.api import Predictions
from bench.errors import UserError
from bench.matrix.kept import filed
from bench.matrix.store import Store
from bench.reports.labels import probability
from bench.reports.records import load_runs
from bench.reports.sections import Section, sections_of
from bench.reports.terminal_comparisons import WITHIN, print_comparisons
from bench.reports.within_seeds import within_seeds

from . import records_maker as maker

SAFECLIP, OTHER = "safeclip (threshold=0.9)", "safeclip (threshold=0.7)"
CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return maker.make(tmp_path / "made")


def _section(store: Store) -> Section:
    return next(section for section in sections_of(load_runs(store)) if "8 epochs" in section.subtitle)


def _keep(store: Store, defense: str, seed: int, predicted: list[int], uids: list[str]) -> Path:
    """Give the ASR of a run under badnet predictions; the adversary wants a cat."""
    run, key = maker.key_for("badnet", defense, seed), maker.key_of("asr")
    record = store.eval_record(run, "asr", key)
    assert record is not None
    target = np.zeros(len(uids), dtype=int)
    told, content = filed([Predictions("all", CLASSES, uids, predicted=np.array(predicted), target=target)])
    store.write_eval(run, "asr", key, record.model_copy(update={"predictions": told}), content)
    return store.predictions(run, "asr", key)


@pytest.fixture
def printed(store: Store) -> Callable[..., str]:
    def run(*names: str, metrics: tuple[str, ...] = ("asr",)) -> str:
        console = Console(file=io.StringIO(), width=100)
        print_comparisons(store, sections_of(load_runs(store)), *names, metrics, console)
        return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]

    return run


def test_probes_that_one_defense_alone_takes_for_the_adversarys_class(store: Store, printed: Callable[..., str]) -> None:
    rng = np.random.default_rng(0)
    uids = [f"test/{row}" for row in range(300)]
    expected = {}
    for seed in (0, 1):
        first, second = rng.integers(3, size=300).tolist(), (rng.integers(9, size=300) % 5 % 3).tolist()
        _keep(store, "safeclip", seed, first, uids)
        _keep(store, "clip", seed, second, uids)
        alone = sum(a == 0 != b for a, b in zip(first, second, strict=True))
        other = sum(b == 0 != a for a, b in zip(first, second, strict=True))
        expected[seed] = (alone, other, stats.binomtest(alone, alone + other).pvalue)
    found = within_seeds(store, _section(store), SAFECLIP, "clip")
    assert [(row.attack, row.seed, row.result.probes) for row in found] == [("badnet 0.5%", seed, 300) for seed in (0, 1)]
    for row in found:
        assert (row.result.first, row.result.second, row.result.p) == pytest.approx(expected[row.seed])
    text = printed(SAFECLIP, "clip")
    assert "−80.5" in text, "the difference over seeds comes first"
    assert WITHIN in text
    for seed, (alone, other, p) in expected.items():
        assert f"ASR badnet 0.5% {seed} {alone} {other} 300 {probability(p)}" in text
    assert WITHIN not in printed(SAFECLIP, "clip", metrics=("zero_shot",))


def test_one_seed_shows_its_probes_and_no_interval(store: Store, printed: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="nothing was measured with both on two seeds"):
        printed(OTHER, "clip")
    _keep(store, "safeclip7", 0, [0, 1, 1], ["a", "b", "c"])
    _keep(store, "clip", 0, [0, 0, 1], ["a", "b", "c"])
    text = printed(OTHER, "clip")
    assert "ASR badnet 0.5% 0 0 1 3 1.000" in text
    assert "detectable" not in text


def test_other_probes_are_not_compared(store: Store) -> None:
    _keep(store, "safeclip", 0, [0, 1], ["a", "b"])
    assert within_seeds(store, _section(store), SAFECLIP, "clip") == []
    for uids in (["b", "a"], ["a", "c"], ["a", "b", "c"]):
        _keep(store, "clip", 0, [0, 1, 2][: len(uids)], uids)
        assert within_seeds(store, _section(store), SAFECLIP, "clip") == []
    _keep(store, "clip", 0, [2, 2], ["a", "b"])
    (row,) = within_seeds(store, _section(store), SAFECLIP, "clip")
    assert (row.result.first, row.result.second, row.result.p) == (1, 0, 1)


def test_a_file_that_is_not_that_of_its_record_is_refused(store: Store, printed: Callable[..., str]) -> None:
    for defense in ("safeclip", "clip"):
        file = _keep(store, defense, 0, [0, 1], ["a", "b"])
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UserError, match=f"^{re.escape(str(file))} is not the file of its record"):
        printed(SAFECLIP, "clip")
