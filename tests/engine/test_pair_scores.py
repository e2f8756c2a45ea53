"""What a defense says of the pairs is kept beside what was poisoned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.defenses.clip import CLIP
from bench.matrix import pair_scores
from bench.matrix.store import Store
from bench.registry import register_defense

from .small import small_matrix
from .training import execute


@pytest.mark.parametrize("threshold", [None, 0.25])
def test_scores_are_kept_in_the_order_of_the_pairs(registries: None, tmp_path: Path, threshold: float | None) -> None:
    @register_defense("scoring")
    class Scoring(CLIP):
        def scores(self) -> NDArray[np.float32]:
            return np.linspace(0, 1, self.setup.pairs, dtype=np.float32)

        def observed(self) -> dict[str, NDArray[Any]]:
            return {} if threshold is None else {"safe": self.scores() < threshold}

    matrix, store = small_matrix(defenses=["scoring"]), Store.create(tmp_path)
    execute(matrix, store)
    cell = matrix.cells[-1]
    poisoned = matrix.workspace.pairs(cell.spec).poisoned
    folder = store.run_dir(cell.key)
    found = pair_scores.read(folder)
    assert found is not None
    assert poisoned.any()
    assert np.array_equal(found.poisoned, poisoned)
    assert np.array_equal(found.score, np.linspace(0, 1, len(poisoned), dtype=np.float32))
    if threshold is None:
        assert found.kept is None
    else:
        assert np.array_equal(found.kept, found.score < threshold)
    (folder / pair_scores.FILE).write_bytes(b"{}")
    assert pair_scores.read(folder) is None


def test_a_defense_that_does_not_score_leaves_no_file(tmp_path: Path) -> None:
    matrix, store = small_matrix(attacks=["none"]), Store.create(tmp_path)
    execute(matrix, store)
    folder = store.run_dir(matrix.cells[-1].key)
    assert not (folder / pair_scores.FILE).exists()
    assert pair_scores.read(folder) is None
