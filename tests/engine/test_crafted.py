"""A plan that is completed against a model: once, against the clean model, and the same for every defense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attacks.label_consistent import LabelConsistent
from bench.api import AttackContext, PoisonPlan, Surrogate
from bench.matrix.store import Store
from bench.models import factory
from bench.models.encoder import ClipEncoder

from .small import small_matrix
from .training import execute


def test_a_plan_is_crafted_once_against_the_clean_model_and_trained_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[torch.Tensor] = []
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def craft(self: LabelConsistent, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        seen.append(surrogate.encode_image(images))
        changes = torch.full((len(plan.poisons), 3, 32, 32), 10 * len(seen), dtype=torch.int16)
        return plan.model_copy(update={"tensors": {**plan.tensors, "changes": changes}})

    monkeypatch.setattr(LabelConsistent, "craft", craft)
    options = "train.precision=bf16", "attack.label_consistent.epsilon=16"
    matrix = small_matrix(*options, attacks=["label_consistent"], defenses=["clip", "roclip"])
    store = Store.create(tmp_path)
    assert execute(matrix, store)[0] == {"done": 3}
    (embeddings,) = seen
    clean, *poisoned = matrix.cells
    assert clean.spec.attack is None
    model = factory.create(clean.spec.model.name, 0)
    model.load_state_dict(load_file(store.run_dir(clean.key) / "model.safetensors"))
    with torch.no_grad():
        by_hand = ClipEncoder(model, "fp32", torch.device("cpu")).eval().encode_image(images)
    assert torch.allclose(embeddings, by_hand, atol=1e-5), "not the clean model, in evaluation mode and in float32"

    hashes = set()
    for cell in poisoned:
        _, plan, ctx = matrix.workspace.poison(cell.spec)
        rows = np.array([poison.index for poison in plan.poisons])
        wanted = (ctx.bundle.train.images.load(rows) + plan.tensors["trigger"] + 10).round().clamp(0, 255).to(torch.uint8)
        pairs = matrix.workspace.pairs(cell.spec)
        trained = pairs.load(np.flatnonzero(pairs.poisoned))
        assert sorted(image.numpy().tobytes() for image in trained) == sorted(image.numpy().tobytes() for image in wanted)
        hashes |= {plan.hash(), json.loads((store.run_dir(cell.key) / "poison.json").read_text())["hash"]}
        hashes.add((store.run_record(cell.key) or {})["poison"]["hash"])
    assert len(hashes) == 1
