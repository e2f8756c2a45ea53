"""The formats of the report: a small results folder gives the committed bytes, and needs neither torch nor plugins.

Where a format was changed on purpose: `bench report --out tests/golden --format csv,html,latex` makes the files again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.matrix.store import Store
from bench.reports.write import FIGURES, FORMATS, write_report

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = [name for name in FORMATS if name not in FIGURES]
COMMITTED = sorted(path.name for path in (GOLDEN / "report").iterdir())
HEAVY = (
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "sklearn",
    "PIL",
    "safetensors",
    "attacks",
    "defenses",
    "evaluators",
)
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError("not installed: " + name)

sys.meta_path.insert(0, Absent())
from bench.cli import main
main(["report", "--out", sys.argv[1], "--format", "{",".join(TEXTS)}"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The records, without the report."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden", ignore=shutil.ignore_patterns("report")))


def assert_committed(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == COMMITTED
    changed = [name for name in COMMITTED if (report / name).read_bytes() != (GOLDEN / "report" / name).read_bytes()]
    assert changed == [], "on purpose? then: bench report --out tests/golden --format csv,html,latex"


def test_every_format_gives_the_committed_bytes(folder: Path) -> None:
    write_report(Store.open(folder), TEXTS)
    assert {Path(name).suffix for name in COMMITTED} == {".csv", ".html", ".tex"}
    assert_committed(folder / "report")


def test_the_same_bytes_where_torch_and_plugins_are_not_installed(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_committed(folder / "report")
