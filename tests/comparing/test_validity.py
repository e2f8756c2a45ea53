"""The comparison of the verdicts of two results folders."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.benchmarks.validity import main, section_of, table
from bench.errors import UserError
from bench.suites.library import load

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"


def compared(first: Path, second: Path) -> list[str]:
    result = CliRunner().invoke(main, [str(first), str(second)])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture
def repaired(tmp_path: Path) -> Path:
    """The reference, but for a SafeCLIP that stops WaNet."""
    folder = tmp_path / "reference"
    shutil.copytree(REFERENCE, folder)
    changed = 0
    for file in folder.glob("runs/*/run.json"):
        spec = json.loads(file.read_text())["spec"]
        if spec["defense"]["name"] == "safeclip" and spec["attack"] and spec["attack"]["name"] == "wanet":
            (path,) = file.parent.glob("evals/asr-*.json")
            record = json.loads(path.read_text())
            (asr,) = [each for each in record["measurements"] if each["metric"] == "asr"]
            asr["value"] = 0.0
            path.write_text(json.dumps(record))
            changed += 1
    assert changed == 1
    return folder


def test_a_folder_agrees_with_itself() -> None:
    *rows, _, verdicts = compared(REFERENCE, REFERENCE)
    assert verdicts == "12 of 12 verdicts are the same."
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| badnet 1%", "| blended 1%", "| tdpa 1%", "| wanet 1%"]
    assert all(" | 1.00 [" in row for row in rows[2:])


def test_a_verdict_that_differs_and_the_order_with_it(repaired: Path) -> None:
    *rows, _, verdicts = compared(REFERENCE, repaired)
    assert verdicts == "11 of 12 verdicts are the same."
    assert "| **43.2** / 0.0 | 0.33 [" in rows[-1]


def test_folders_without_a_common_verdict(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "some", ignore=shutil.ignore_patterns("runs", "requests"))
    with pytest.raises(UserError, match="no runs are on record there"):
        section_of(tmp_path / "some")
    reference = section_of(REFERENCE)
    with pytest.raises(UserError, match="against the same effective attack"):
        list(table(reference, replace(reference, attacks=())))


def test_the_published_data_sets_on_the_page() -> None:
    """Of RoCLIP's and SafeCLIP's verdicts on attacks that reach 30% on CLIP in both, those that are the same; 5% is stopped."""
    suite = load("table1")
    asr = {
        (column.group, column.attack, row.label[0]): value
        for row in suite.rows
        for column, value in zip(suite.columns, row.published, strict=True)
    }
    sets, attacks = (list(dict.fromkeys(getattr(each, name) for each in suite.columns)) for name in ("group", "attack"))
    page = (ROOT / "docs" / "validity.md").read_text(encoding="utf-8")
    for one, other in combinations(sets, 2):
        both = [attack for attack in attacks if min(asr[one, attack, "CLIP"], asr[other, attack, "CLIP"]) >= 30]
        pairs = [(asr[one, attack, name], asr[other, attack, name]) for attack in both for name in ("RoCLIP", "SafeCLIP")]
        same = sum((first <= 5) == (second <= 5) for first, second in pairs)
        row = next(line for line in page.splitlines() if re.match(rf"\| {one} \|", line))
        heads = next(line for line in page.splitlines() if line.startswith("| | CC3M |"))
        cell = dict(zip(heads.split("|"), row.split("|"), strict=True))[f" {other} "]
        assert cell.strip() == f"{same} of {len(pairs)}"
