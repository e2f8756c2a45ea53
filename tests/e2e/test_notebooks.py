"""The notebooks of the docs run from their first cell to the last, with tiny values for the cell tagged "parameters"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
TINY = {
    "data.train": 256, "data.test": 64, "data.holdout": 64, "data.probe_train": 64, "train.epochs": 1, "train.batch_size": 64,
    "attack.rate": 0.04,
}  # fmt: skip
PARAMETERS = f"options = {TINY}\nfolder = {str(ROOT / 'results' / 'reference-0.1')!r}"


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    script = []
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        if source.startswith("%%writefile "):
            first, _, text = source.partition("\n")
            (tmp_path / first.split()[1]).write_text(text)
        else:
            script.append(source)
        if "parameters" in cell["metadata"].get("tags", ()):
            script.append(PARAMETERS)
    assert PARAMETERS in script
    done = subprocess.run([sys.executable, "-c", "\n".join(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_printed(notebook: Path) -> None:
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "stream"}
    assert [output for output in outputs if output.get("name") == "stderr"] == []
