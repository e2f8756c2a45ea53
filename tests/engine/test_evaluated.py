"""What evaluators are shown of a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from bench.data.augment import to_float
from bench.errors import UserError
from bench.matrix.cell import write_untrained
from bench.matrix.evaluation import CellEvalContext, CellModels
from bench.matrix.store import Store

from .small import small_matrix


def test_detection_asks_for_a_defense_that_scores_pairs() -> None:
    matrix = small_matrix(attacks=["none", "badnet"], defenses=["clip", "deepknn"], evaluators=["detection"])
    reasons = {
        (cell.spec.defense.name, cell.spec.attack is not None): each.unsupported
        for cell in matrix.cells
        for each in cell.evaluations
    }
    no_attack = "no attack, so nothing to measure"
    assert reasons == {
        ("clip", False): no_attack,
        ("deepknn", False): no_attack,
        ("clip", True): "this defense does not score pairs",
        ("deepknn", True): None,
    }


def test_a_context_knows_the_poison_the_scores_and_the_models_gradient(tmp_path: Path) -> None:
    matrix, store = small_matrix("attack.rate=0.05"), Store.create(tmp_path)
    cell = matrix.cells[0]
    write_untrained(cell.spec, store)
    ctx = CellEvalContext(cell.spec, None, matrix.workspace, CellModels(matrix.workspace, store, torch.device("cpu")))
    assert ctx.poisons == 13
    assert ctx.queries == []
    images = to_float(ctx.bundle.test.images.load(np.arange(4)))
    surrogate = ctx.surrogate().encode_image(images.requires_grad_())
    surrogate.sum().backward()
    assert images.grad is not None
    assert torch.allclose(surrogate, ctx.model.image_features(ctx.bundle.test.images)[:4], atol=0.02)
    with pytest.raises(UserError, match=r"scores\.safetensors is missing or damaged: delete .*run\.json to train anew"):
        ctx.pair_scores()
    score, poisoned = np.array([0.5, np.nan], dtype=np.float32), np.array([1, 0], dtype=np.uint8)
    save_file({"score": score, "poisoned": poisoned}, store.run_dir(cell.key) / "scores.safetensors")
    found = ctx.pair_scores()
    assert np.array_equal(found.score, score, equal_nan=True)
    assert found.poisoned.tolist() == [True, False]
    assert found.kept is None
