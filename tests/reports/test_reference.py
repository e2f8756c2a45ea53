"""The tables of the committed results follow from their records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.matrix.store import Store
from bench.reports.write import write_report

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("name", ["reference", "reference-0.1", "suites"])
def test_the_report_reproduces_the_committed_tables(tmp_path: Path, name: str) -> None:
    copy = tmp_path / name
    shutil.copytree(RESULTS / name, copy, ignore=shutil.ignore_patterns("report"))
    made = {file: path.read_bytes() for file, path in write_report(Store.open(copy), ["csv"]).items() if file.endswith(".csv")}
    assert made == {path.name: path.read_bytes() for path in (RESULTS / name / "report").glob("*.csv")}


def test_the_suites_hold_every_table_and_agree_with_the_reference() -> None:
    assert {path.name for path in (RESULTS / "suites" / "report").glob("table[1-9]*.csv")} == {
        f"table{number}.csv" for number in range(1, 16)
    }
    shared = [path.relative_to(RESULTS / "suites") for path in (RESULTS / "suites" / "runs").glob("*/evals/asr-*.json")]
    pairs = [(RESULTS / "suites" / path, RESULTS / "reference-0.1" / path) for path in shared]
    both = [(json.loads(left.read_text()), json.loads(right.read_text())) for left, right in pairs if right.exists()]
    assert len(both) == 15
    assert all(left["measurements"] == right["measurements"] for left, right in both)
