"""A plan that is completed against a model: once, against the clean model, and the same for every defense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.api import AttackContext, PoisonPlan, Surrogate
from bench.attacks.label_consistent import LabelConsistent
from bench.matrix.store import Store
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenSurrogate

from .small import small_matrix
from .training import execute

NAME = "scenes-small"
CAPTIONS = ["a red ring", "two blue stars on a table", ""]


def _encoder() -> ClipEncoder:
    return ClipEncoder(factory.create(NAME, 0), "fp32", torch.device("cpu"))


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


def test_a_surrogate_is_frozen_and_lets_gradients_through_to_the_pixels() -> None:
    encoder, alike, tokenizer = _encoder().train(), _encoder().eval(), factory.tokenizer(NAME)
    surrogate = FrozenSurrogate(encoder, tokenizer)
    images, plain = (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5)).requires_grad_() for _ in range(2))
    embeddings, expected = surrogate.encode_image(images), alike.encode_image(plain)
    assert torch.allclose(embeddings, expected, atol=1e-5)
    embeddings[:, 0].sum().backward()
    expected[:, 0].sum().backward()
    assert images.grad is not None
    assert plain.grad is not None
    assert plain.grad.abs().max() > 1e-3
    assert torch.allclose(images.grad, plain.grad, atol=1e-5)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    captions = surrogate.encode_captions(CAPTIONS)
    assert not captions.requires_grad
    assert torch.allclose(captions, alike.encode_text(tokenizer(CAPTIONS)), atol=1e-5)
    assert all(torch.equal(value, alike.state_dict()[name]) for name, value in encoder.state_dict().items())
