"""What a request comes to on the data set and the machine that it meets."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench.data import thesaurus
from bench.matrix.expand import MatrixRequest, expand

from .small import small_matrix


def test_a_run_says_which_thesaurus_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions are changed with it, so two machines with other ones have other runs."""
    keys = set()
    for found in ("dataset", "wordnet", "none"):
        monkeypatch.setattr(thesaurus, "best", lambda own, found=found: found)
        (cell,) = small_matrix(attacks=["none"]).cells
        assert cell.spec.train.thesaurus == found
        keys.add(cell.key)
    assert len(keys) == 3
    (chosen,) = small_matrix("train.thesaurus=dataset", attacks=["none"]).cells
    assert chosen.spec.train.thesaurus == "dataset"


def test_what_needs_tasks_is_unsupported_on_a_data_set_that_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    lines = ["filepath,title"]
    for row in range(20):
        Image.new("RGB", (8, 8), (row, 5, 200)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,a banana number {row}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    matrix = expand(MatrixRequest("csv", ["none"], ["clip"], ["zero_shot", "asr"], data_root=tmp_path, model="small-64"))
    bundle = matrix.workspace.bundle
    assert bundle.tasks == ()
    assert bundle.task_reason
    assert {each.evaluator.name: each.unsupported for cell in matrix.cells for each in cell.evaluations} == {
        "zero_shot": bundle.task_reason,
        "asr": "no attack, so nothing to measure",
    }
