"""The comparison of the verdicts of two results folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.benchmarks.validity import main

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


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
