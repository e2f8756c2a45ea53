"""Every suite is valid; published numbers against literals from the paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bench import plugins
from bench.errors import UserError
from bench.registry import defenses
from bench.reports.measures import METRICS
from bench.suites.library import load, names, resolve
from bench.suites.parts import MetricName

PAGE = Path(__file__).parents[2] / "docs" / "the-paper-at-full-size.md"
NAMES = [*(f"table{n}" for n in range(1, 16)), *(f"figure{n}" for n in range(1, 5))]

# (suite, row, column): value; a column is its group and label.
PRINTED: dict[tuple[str, str, str], float | str] = {
    ("table1", "CLIP", "CC1M TDPA"): 93.75,
    ("table1", "CLIP", "CC3M Label consistent"): 58.3,
    ("table1", "CLIP", "MSCOCO WaNet"): 7.6,
    ("table1", "CLIP", "MSCOCO BadNet"): 31.0,
    ("table1", "CLIP", "Visual Genome BadNet"): 1.3,
    ("table1", "RoCLIP", "Visual Genome TDPA"): 37.5,
    ("table1", "RoCLIP", "Visual Genome Blended"): 9.6,
    ("table1", "SafeCLIP", "CC3M Blended"): 0.3,
    ("table1", "SafeCLIP", "Visual Genome Blended"): 5,
    ("table2", "CLIP/zero-shot", "ImageNet"): 19.4,
    ("table2", "CLIP/linear probe", "Flowers-102"): 100,
    ("table2", "CLIP/zero-shot", "minus CLIP"): "-",
    ("table2", "RoCLIP/linear probe", "minus CLIP"): -8.3,
    ("table2", "SafeCLIP/zero-shot", "Caltech-101"): 54.4,
    ("table2", "SafeCLIP/zero-shot", "minus CLIP"): 0.9,
    ("table3", "5/1", "poisons in safe set"): 0.09,
    ("table3", "5/0", "poisons in safe set"): 12.28,
    ("table3", "5/2", "poisons in safe set"): 6.8,
    ("table4", "COCO", "lr_low 5e-5"): 0,
    ("table4", "VG", "lr_low 1e-5"): 0,
    ("table5", "CC1M", "no unimodal CL on the risky set"): 12.5,
    ("table5", "COCO", "CL without nearest neighbours"): 25.0,
    ("table5", "VG", "SafeCLIP"): 0,
    ("table6", "CC1M", "t = 0.9 poison rate"): 3.75e-4,
    ("table6", "COCO", "t = 0.7 poison rate"): 1.13e-2,
    ("table6", "COCO", "t = 0.95 safe set"): 0.7,
    ("table6", "VG", "t = 0.5 safe set"): 65.6,
    ("table7", "SafeCLIP/zero-shot", "CIFAR-100"): 10.41,
    ("table7", "SafeCLIP, 64 epochs/linear probe", "ImageNet"): 28.7,
    ("table7", "CLIP/zero-shot", "ASR TDPA"): 93.8,
    ("table8", "SafeCLIP: fitting the mixture (once)", "time"): 0.35,
    ("table8", "RoCLIP epoch", "time"): 1.06,
    ("table9", "CC1M", "TDPA 0.1%"): 6.25,
    ("table9", "CC1M", "BadNet 0.5%"): "-",
    ("table9", "MSCOCO", "BadNet 0.5%"): 0,
    ("table10", "PBA, all to all", "ASR"): 0,
    ("table11", "Food-101", "training images"): 75750,
    ("table11", "Caltech-101", "test images"): 6085,
    ("table11", "Stanford Cars", "classes"): 196,
    ("table12", "CC3M", "safe set"): 17.79,
    ("table12", "CC100K", "poison rate"): 0.00176,
    ("table12", "unfiltered", "poison rate"): 0.05,
    ("table13", "ViT-B/32", "BadNet"): 0,
    ("table14", "CC3M", "batch size"): 512,
    ("table14", "VG", "lr_low"): 5e-6,
    ("table14", "COCO", "lr"): 5e-4,
    ("table15", "DeepKNN", "increase"): 866.67,
    ("table15", "Adversarial Poisoning", "increase"): 653.33,
    ("table15", "SafeCLIP, 1 unimodal epoch", "increase"): 17.34,
}
CELLS = {1: 60, 2: 66, 3: 5, 4: 9, 5: 9, 6: 24, 7: 24, 8: 6, 9: 10, 10: 3, 11: 30, 12: 8, 13: 4, 14: 12, 15: 6}
SUMS = {
    "table1": 1434.7,
    "table2": 2042.4,
    "table5": 100.0,
    "table6": 325.571155,
    "table7": 812.23,
    "table11": 379303.0,
    "table15": 1840.52,
}


def test_the_suites_are_the_tables_and_figures() -> None:
    assert names() == NAMES
    assert [suite.name for suite in resolve(["all"])] == NAMES
    assert load("figure3").label == "Figure 3"


OF_RUNS = {"time.update", "time.epoch", "setting.lr", "setting.batch_size"}


def _declared() -> set[str]:
    """Metrics for the telemetry and learning rates that defenses declare."""
    plugins.load()
    meanings = [entry.plugin.meaning(entry.plugin.Params()) for entry in defenses]
    stages = {f"time.{stage.name}" for meaning in meanings for stage in meaning.stages}
    return stages | {f"setting.{name}" for meaning in meanings for name in meaning.lr_shares}


@pytest.mark.parametrize("number", CELLS)
def test_every_cell_of_a_table_is_there_and_measured_by_something(number: int) -> None:
    cells = load(f"table{number}").cells()
    assert len(cells) == CELLS[number]
    assert {cell.metric for cell in cells} <= set(get_args(MetricName)) <= METRICS.keys() | OF_RUNS | _declared()
    assert all(cell.condition.data for cell in cells if cell.metric != "printed")


@pytest.mark.parametrize("at", PRINTED, ids=str)
def test_published_numbers(at: tuple[str, str, str]) -> None:
    name, row, column = at
    suite = load(name)
    values = {
        ("/".join(r.label), f"{c.group} {c.label}".strip()): value
        for r in suite.rows
        for c, value in zip(suite.columns, r.published, strict=True)
    }
    assert values[row, column] == PRINTED[at]


def test_sums_over_whole_tables() -> None:
    """Sums detect a wrong digit."""
    sums = {
        suite.name: round(sum(value for row in suite.rows for value in row.published if not isinstance(value, str)), 6)
        for suite in map(load, ("table1", "table2", "table5", "table6", "table7", "table11", "table15"))
    }
    assert sums == SUMS


def test_an_unknown_suite() -> None:
    with pytest.raises(UserError, match="did you mean 'table9'"):
        load("table99")


def test_the_page_on_the_paper_counts_the_trainings_of_each_suite() -> None:
    rows = re.findall(r"^\| (table\d+) \| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(count) for name, count in rows} == {
        name: len(load(name).conditions()) for name in NAMES if name.startswith("table")
    }
    assert (
        f"all of them together take {len({condition for name in NAMES for condition in load(name).conditions()})},"
        in PAGE.read_text()
    )
