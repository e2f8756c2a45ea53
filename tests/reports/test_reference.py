"""The committed reference: its tables follow from its records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.matrix.store import Store
from bench.reports.write import write_report

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.mark.parametrize("name", ["results.csv", "table.csv"])
def test_the_report_reproduces_the_committed_tables(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "reference"
    shutil.copytree(REFERENCE, copy, ignore=shutil.ignore_patterns("report"))
    paths = write_report(Store.open(copy), ["csv"])
    assert paths[name].read_bytes() == (REFERENCE / "report" / name).read_bytes()
