"""What a defense holds beside the encoder is made from the seed, trained, and kept over an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.api import Batch, Encoder, Phase
from bench.defenses.clip import CLIP
from bench.matrix import cell as cells
from bench.matrix.expand import Matrix
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.registry import register_defense
from bench.training.gradients import NotOptimised, leaves
from bench.training.held import HeldModules
from bench.training.trainer import Trainer

from .small import small_matrix
from .training import Recorder, execute

CPU = torch.device("cpu")
DIM = 64


def _trainer(matrix: Matrix, folder: Path) -> Trainer:
    runtime = Runtime(CPU, Recorder(), lambda: False)
    return cells.prepare(matrix.cells[-1], matrix.workspace, Store.create(folder), runtime)[0]


def _register(name: str, hold: Callable[[Any, int], None], add: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
    """Plain CLIP that holds what `hold` makes and adds to its loss what `add` makes of the image embeddings."""

    @register_defense(name)
    class Holder(CLIP):
        def __init__(self, params: Any, setup: Any) -> None:
            super().__init__(params, setup)
            hold(self, setup.embed_dim)

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            return super().loss(batch, encoder, phase) + add(self, encoder.encode_image(batch.images[0]))


def _everywhere(self: Any, dim: int) -> None:
    self.head = nn.Sequential(nn.Linear(dim, 3), nn.BatchNorm1d(3))
    self.many = [nn.Linear(dim, 2), (nn.Linear(dim, 2), {"deep.est": nn.Linear(dim, 2)})]
    self.box = SimpleNamespace(gain=nn.Parameter(torch.randn(dim)), myself=self)
    self.training = nn.Parameter(torch.randn(()))
    self.frozen = nn.Linear(dim, 1).requires_grad_(False)
    self.twice = self.head
    self.untrained = torch.randn(3)


def _use_everything(self: Any, images: torch.Tensor) -> torch.Tensor:
    first, (second, deep) = self.many
    outputs = [self.head(images), first(images), second(images), deep["deep.est"](images), images * self.box.gain]
    return sum(each.square().mean() for each in outputs) * self.training.exp() + self.frozen(images).mean()


def _parameters(self: Any) -> dict[str, torch.Tensor]:
    """Every one by hand."""
    first, (second, deep) = self.many
    modules = {"head": self.head, "first": first, "second": second, "deep": deep["deep.est"], "frozen": self.frozen}
    found = {f"{name} {own}": value for name, module in modules.items() for own, value in module.state_dict().items()}
    return {name: value.clone() for name, value in {**found, "gain": self.box.gain, "training": self.training}.items()}


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, bool]:
    assert one.keys() == other.keys()
    return {name: torch.equal(one[name], other[name]) for name in one}


def test_everything_held_anywhere_is_found_once() -> None:
    defense: Any = SimpleNamespace()
    _everywhere(defense, DIM)
    found = HeldModules(defense, CPU)
    by_hand = _parameters(defense)
    assert len(found.state_dict()) == len(by_hand)
    sums = [sum(float(each.detach().double().sum()) for each in all_.values()) for all_ in (found.state_dict(), by_hand)]
    assert sums[0] == pytest.approx(sums[1])
    assert len(list(found.parameters())) == len([name for name in by_hand if "running" not in name and "num_" not in name])


def test_everything_held_is_trained_and_what_is_frozen_stays(registries: None, tmp_path: Path) -> None:
    _register("holder", _everywhere, _use_everything)
    trainer = _trainer(small_matrix("train.epochs=1", defenses=["holder"]), tmp_path)
    before = _parameters(trainer.defense)
    trainer.run()
    same = _equal(before, _parameters(trainer.defense))
    assert {name for name, kept in same.items() if kept} == {"frozen weight", "frozen bias"}


def test_modules_made_in_init_follow_from_model_and_seed(registries: None, tmp_path: Path) -> None:
    for name in ("holder", "other"):
        _register(name, _everywhere, _use_everything)
    made = []
    for number, (name, seed, disturbance) in enumerate([("holder", 0, 1), ("holder", 0, 2), ("other", 0, 3), ("holder", 1, 1)]):
        torch.manual_seed(disturbance)
        np.random.seed(disturbance)
        matrix = small_matrix(defenses=[name], seeds=[seed])
        made.append(_parameters(_trainer(matrix, tmp_path / str(number)).defense))
    assert all(_equal(made[0], made[1]).values())
    assert all(_equal(made[0], made[2]).values())
    assert not _equal(made[0], made[3])["head 0.weight"]


def test_what_is_held_survives_an_interruption_without_a_word(registries: None, tmp_path: Path) -> None:
    held: list[Any] = []
    _register("holder", lambda self, dim: (_everywhere(self, dim), held.append(self))[0], _use_everything)
    matrix = small_matrix("train.epochs=2", defenses=["holder"])
    execute(matrix, Store.create(tmp_path / "whole"))
    whole = _parameters(held[-1])
    for stop in (1, 5, 8):
        store = Store.create(tmp_path / f"stop{stop}")
        with pytest.raises(KeyboardInterrupt):
            execute(matrix, store, stop_after=stop)
        assert execute(matrix, store)[0] == {"done": 1}
        assert all(_equal(whole, _parameters(held[-1])).values())


def _late(self: Any, images: torch.Tensor) -> torch.Tensor:
    if not hasattr(self, "late"):
        self.late = nn.Linear(images.shape[1], 1)
    return self.late(images).mean()


@pytest.mark.parametrize(
    ("hold", "add", "named"),
    [
        (lambda self, dim: None, _late, "self.late.bias, self.late.weight,"),
        (
            lambda self, dim: setattr(self, "gain", torch.ones(dim, requires_grad=True)),
            lambda s, x: (x * s.gain).mean(),
            "self.gain,",
        ),
        (
            lambda self, dim: None,
            lambda s, x: (x * torch.ones(7, 1, 1, requires_grad=True)).mean(),
            "a tensor of shape (7, 1, 1),",
        ),
        (
            lambda self, dim: setattr(self, "frozen", nn.Linear(dim, 1).requires_grad_(False)),
            lambda s, x: s.frozen.requires_grad_()(x).mean(),
            "self.frozen.bias, self.frozen.weight,",
        ),
    ],
    ids=["made later", "no parameter", "nowhere held", "thawed later"],
)
def test_gradient_in_what_is_not_optimised_is_an_error(
    registries: None, tmp_path: Path, hold: Any, add: Any, named: str
) -> None:
    _register("careless", hold, add)
    trainer = _trainer(small_matrix(defenses=["careless"]), tmp_path)
    with pytest.raises(NotOptimised) as told:
        trainer.run()
    assert str(told.value).startswith(f"the loss of phase 'train' has gradient in {named} which is not optimised: ")
    assert "in __init__" in str(told.value)


def test_every_phase_is_looked_at_and_after_a_resume_again(registries: None, tmp_path: Path) -> None:
    @register_defense("second")
    class Second(CLIP):
        def phases(self, epoch: int) -> tuple[Phase, ...]:
            return Phase("first"), Phase("second")

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            stray = torch.ones((), requires_grad=phase.name == "second")
            return super().loss(batch, encoder, phase) * stray

    matrix, store = small_matrix(defenses=["second"]), Store.create(tmp_path)
    outcomes, recorder = execute(matrix, store)
    assert outcomes == {"failed": 1}
    assert recorder.steps == 4
    assert "the loss of phase 'second' has gradient in a tensor of shape ()" in recorder.said.getvalue()
    outcomes, recorder = execute(matrix, store, retry_failed=True)
    assert outcomes == {"failed": 1}
    assert "the loss of phase 'second' has gradient in a tensor of shape ()" in recorder.said.getvalue()


def test_leaves_are_those_that_backward_reaches() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(3, requires_grad=True) for _ in range(6)]
    a, b, c, d, unused, cut = tensors
    with torch.no_grad():
        hidden = (cut * a).sum()
    loss = ((a * b + b).exp().sum() * c[0] + d.detach().sum()) * hidden + torch.stack([a, b]).max()
    loss.backward(retain_graph=True)
    reached = {id(each) for each in tensors if each.grad is not None}
    assert {id(each) for each in leaves(loss)} == reached == {id(a), id(b), id(c)}
    assert unused.grad is None
    assert [id(each) for each in leaves(c)] == [id(c)]
    assert not list(leaves(torch.ones(())))
