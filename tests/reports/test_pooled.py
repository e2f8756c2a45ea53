"""The pooled interval against its defining equation, in every format."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from bench.matrix.store import Store
from bench.reports.paper_terminal import print_papers
from bench.reports.records import load_runs
from bench.reports.stats import Point, Stat, wilson
from bench.reports.terminal import print_tables
from bench.reports.write import paper_tables, write_report

from .records_maker import key_for, write_eval, write_training
from .suite_maker import ask

Z = 1.959964


def by_hand(count: int, n: int) -> tuple[float, float]:
    """The two shares p with (count / n - p)^2 = z^2 p (1 - p) / n, by the quadratic formula."""
    a, b, c = 1 + Z * Z / n, -(2 * count / n + Z * Z / n), (count / n) ** 2
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def stat(*counts: tuple[int, int], unit: str = "fraction") -> Stat:
    return Stat(tuple(range(len(counts))), tuple(Point(count / n, n=n, unit=unit) for count, n in counts))


@pytest.mark.parametrize("n", [1, 2, 16, 48, 1890])
def test_wilson_by_the_quadratic_formula(n: int) -> None:
    for count in {0, 1, n // 3, n // 2, n - 1, n}:
        low, high = wilson(count / n, n)
        assert (low, high) == pytest.approx(by_hand(count, n), abs=1e-9)
        assert low <= count / n <= high


def test_rounding_does_not_exclude_0_and_1() -> None:
    for n in range(1, 3000):
        assert wilson(0.0, n)[0] == 0.0
        assert wilson(1.0, n)[1] == 1.0


@pytest.mark.parametrize("counts", [[(0, 16)] * 3, [(16, 16)] * 3, [(1, 16), (30, 48), (2, 7)], [(5, 9)]])
def test_counts_of_all_seeds_are_pooled(counts: list[tuple[int, int]]) -> None:
    found = stat(*counts).pooled
    assert found
    total = sum(n for _, n in counts)
    assert (found.low, found.high) == pytest.approx(by_hand(sum(count for count, _ in counts), total), abs=1e-9)
    assert (found.n, found.least) == (total, min(n for _, n in counts))


def test_the_smaller_n_is_named() -> None:
    assert stat((0, 16), (0, 16), (0, 16)).interval == "[0.0, 7.4] n=16"
    assert stat((0, 48), (0, 16), (0, 48)).interval == "[0.0, 3.3] n≥16"
    assert stat((0, 16)).interval == ""  # the spread of one seed is its interval


def test_only_proportions_have_a_pooled_interval() -> None:
    assert stat((3, 16), (4, 16), unit="seconds").pooled is None
    for value, n in ((0.123, 16), (0.5, None), (0.5, 0), (1.5, 16), (-0.5, 16)):  # the first: a mean over classes
        assert Stat((0, 1), (Point(0.5, n=16), Point(value, n=n))).pooled is None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """No hit in 16, 48 and 48 images with a defense, all hits without; floors of 1 in 16."""
    store = Store.create(tmp_path / "out")
    for defense, share in (("clip", 1.0), ("safeclip", 0.0)):
        for seed, n in enumerate((16, 48, 48)):
            write_training(store, "badnet", defense, seed)
            shares = {("asr", "all"): share, ("asr_floor", "all"): 1 / 16, ("triggered_top1", "all"): 0.5}
            write_eval(store, key_for("badnet", defense, seed), "asr", shares, better={"asr": "lower"}, n=n)
            tasks = {("top1", "colour"): 0.25, ("top1", "shape"): 0.75}
            write_eval(store, key_for("badnet", defense, seed), "zero_shot", tasks, n=n)
    runs = {f"cc1m | badnet | {name}": [key_for("badnet", name, seed) for seed in range(3)] for name in ("clip", "safeclip")}
    ask(store, "table1", runs, {})
    return store


def shown(store: Store, paper: bool) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    if paper:
        print_papers(paper_tables(store, load_runs(store), ["table1"]), console)
    else:
        print_tables(store, console)
    return console.export_text()


def test_every_format_has_it(store: Store) -> None:
    files = {name: path.read_text(encoding="utf-8") for name, path in write_report(store, ["csv", "html", "latex"]).items()}
    low, high = by_hand(0, 112)
    row = next(row for row in csv.DictReader(io.StringIO(files["table.csv"])) if row["defense"] == "safeclip")
    assert (float(row["asr_pooled_low"]), float(row["asr_pooled_high"])) == pytest.approx((low, high), abs=1e-9)
    assert (row["asr"], row["asr_std"], row["asr_n_total"], row["asr_n_least"]) == ("0.0", "0.0", "112", "16")
    floor = float(row["asr_floor_pooled_low"]), float(row["asr_floor_pooled_high"])
    assert floor == pytest.approx(by_hand(7, 112), abs=1e-9)
    assert float(row["triggered_top1_pooled_high"]) == pytest.approx(by_hand(56, 112)[1], abs=1e-9)
    assert (row["zero_shot.top1"], row["zero_shot.top1_pooled_low"]) == ("0.5", "")  # a mean over tasks
    paper = csv.DictReader(io.StringIO(files["table1.csv"]))
    cell = next(line for line in paper if (line["defense"], line["attack"], line["seeds"]) == ("safeclip", "badnet", "3"))
    assert (float(cell["pooled_low"]), float(cell["pooled_high"])) == pytest.approx((low, high), abs=1e-9)
    assert (cell["n_total"], cell["n_least"]) == ("112", "16")
    page = files["index.html"]
    assert page.count("[0.0, 3.3] n≥16</small>") == 2  # the table of the setting and the paper's
    assert page.count('title="95% Wilson interval of the counts pooled over all seeds: 16 + 48 + 48 = 112"') > 2
    assert r"\scriptsize $\pm$ 0.0, n$\geq$16" in files["table1.tex"]
    assert r"\scriptsize [0.0, 3.3]" in files["table1.tex"]
    for paper_table in (False, True):
        assert "[0.0, 3.3] n≥16" in shown(store, paper_table)
        assert "[96.7, 100.0] n≥16" in shown(store, paper_table)
