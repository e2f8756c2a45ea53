"""Nothing that a defense is given reveals which pairs are poisoned: guesses are no better than chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.api import Batch, DatasetBundle, Encoder, Phase, PoisonPlan, Scorer
from bench.data.poisoned import PoisonedPairs
from bench.defenses.clip import CLIP
from bench.matrix.store import Store
from bench.registry import register_defense
from bench.testing import small
from bench.training.telemetry import poison_telemetry, sampled_histograms

from .leakage import RATE, assert_no_better_than_chance, prepared_trainer, trial
from .small import raw, small_matrix
from .training import execute


def _seed_of(*parts: Any) -> int:
    """As in the engine, from its documentation of seeds: the first 63 bits of the sha256 of the canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_cannot_be_reconstructed_from_guessed_seeds(registries: None, tmp_path: Path, seed: int) -> None:
    """Whatever seed `setup.rng` may have come from, the poisons are not where that seed would put them."""
    betrayed: list[int] = []

    def rebuilt(setup: Any) -> NDArray[np.int64]:
        first = setup.rng("purpose").random()
        guesses = [(("order", each), ("order", each, None)) for each in range(100)]
        for parts in (parts for both in guesses for parts in both):
            made = [_seed_of(*parts, "defense", "purpose"), _seed_of(_seed_of(*parts, "defense"), "purpose")]
            if any(np.random.default_rng(each).random() == first for each in made):
                betrayed.append(int(parts[1]))
        order = np.random.default_rng(_seed_of("order", seed, "positions")).permutation(setup.pairs)
        return np.flatnonzero(order >= 256)  # added poisons come last before they are mixed in

    found, pairs = trial(tmp_path, rebuilt, seed)
    assert not betrayed
    assert_no_better_than_chance(found, pairs.poisoned)
    for parts in (("order", seed), ("order", seed, None)):
        order = np.random.default_rng(_seed_of(*parts, "positions")).permutation(len(pairs))
        assert_no_better_than_chance(order >= 256, pairs.poisoned)


def _reachable(start: object, closures: bool) -> Iterator[object]:
    """What attributes without an underscore, items and what functions are bound to lead to."""
    waiting, seen = [start], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, type | torch.Tensor | np.ndarray):
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, str | int | float):
            continue
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
        waiting += [each for name, each in getattr(value, "__dict__", {}).items() if not name.startswith("_")]
        waiting += [getattr(value, name) for name in ("__self__", "args", "keywords", "func") if hasattr(value, name)]
        if closures:
            waiting += [each.cell_contents for each in getattr(value, "__closure__", None) or ()]


def test_no_argument_of_a_defense_leads_to_the_poison(registries: None, tmp_path: Path) -> None:
    given: list[object] = []

    @register_defense("curious")
    class Curious(CLIP):
        def before_epoch(self, epoch: int, scorer: Scorer) -> None:
            given.extend([scorer, scorer.similarities, scorer.embeddings])

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            given.extend([batch, encoder, phase])
            return super().loss(batch, encoder, phase)

    trainer = prepared_trainer(small_matrix(defenses=["curious"]), tmp_path)
    trainer.run()
    secrets = (PoisonedPairs, PoisonPlan, DatasetBundle)
    setup = trainer.defense.setup
    for start in (setup, *given):
        assert not [each for each in _reachable(start, closures=False) if isinstance(each, secrets)]
    for function in (setup.rng, setup.trusted, setup.labels):
        reached = list(_reachable(function, closures=True))
        assert not [each for each in reached if isinstance(each, secrets) or each == trainer.pairs.digest]


def test_the_order_depends_on_the_plan_but_not_on_crafting(registries: None) -> None:
    _, plan = small.stamp()
    assert plan.chosen() != plan.model_copy(update={"poisons": plan.poisons[1:]}).chosen()
    moved = plan.poisons[0].model_copy(update={"index": plan.poisons[0].index + 1})
    assert plan.chosen() != plan.model_copy(update={"poisons": (moved, *plan.poisons[1:])}).chosen()
    assert plan.chosen() == plan.model_copy(update={"tensors": {"patch": torch.ones(3)}}).chosen()
    matrix = small_matrix(attacks=["none", "badnet", "tdpa"], defenses=["clip", "safeclip"])
    positions: dict[str, list[list[int]]] = {}
    for cell in matrix.cells:
        name = cell.spec.attack.name if cell.spec.attack else "none"
        positions.setdefault(name, []).append(matrix.workspace.pairs(cell.spec)._clean_of.tolist())
    assert all(first == second for first, second in positions.values())
    assert len({tuple(first) for first, _ in positions.values()}) == 3


class _Spy(np.ndarray):
    """An array that notes what it is combined with."""

    met: list[object] = []

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        self.met.extend(inputs)
        return getattr(ufunc, method)(*(np.asarray(each) for each in inputs), **options)

    def __getitem__(self, key: Any) -> Any:
        self.met.append(key)
        return super().__getitem__(key)


def test_observations_are_not_combined_with_the_mask() -> None:
    poisoned = np.arange(40) % 5 == 0
    observed = {
        "safe": (np.arange(40) % 2 == 0).view(_Spy),
        "similarity": np.linspace(-1, 1, 40, dtype=np.float32).view(_Spy),
        "image_neighbour": np.arange(40).view(_Spy),
    }
    plain = {name: np.asarray(values) for name, values in observed.items()}
    _Spy.met.clear()
    assert poison_telemetry(observed, poisoned) == poison_telemetry(plain, poisoned)
    assert not _Spy.met


def test_requested_pairs_are_not_combined_with_the_mask(registries: None, tmp_path: Path) -> None:
    """Neither where it scores them, nor where it trains on them, nor where it asks for their labels."""

    @register_defense("asking")
    class Asking(CLIP):
        def before_epoch(self, epoch: int, scorer: Scorer) -> None:
            scorer.similarities(np.arange(self.setup.pairs).view(_Spy))
            scorer.embeddings(np.arange(self.setup.pairs).view(_Spy))
            self.setup.labels(self.setup.trusted(20).view(_Spy))

        def phases(self, epoch: int) -> Sequence[Phase]:
            return (Phase(indices=np.arange(self.setup.pairs).view(_Spy)),)

    _Spy.met.clear()
    prepared_trainer(small_matrix(defenses=["asking"]), tmp_path).run()
    masks = [each for each in _Spy.met if isinstance(each, np.ndarray) and each.dtype == bool]
    assert not masks


def test_the_first_scoring_is_in_the_order_of_the_pairs() -> None:
    """A hook in the encoder sees what is scored: not the poisons before the others."""
    asked: list[NDArray[np.int64]] = []

    class Scored:
        def similarities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
            asked.append(rows)
            return np.zeros(len(rows), dtype=np.float32)

    sampled_histograms(Scored(), np.arange(500) % 50 == 0, np.random.default_rng(0))  # type: ignore[arg-type]
    assert (np.diff(asked[0]) > 0).all()


def test_the_share_of_poisons_on_record_is_that_of_thetrial(registries: None, tmp_path: Path) -> None:
    """The measure of the other trials, for a defense that knows the poison."""

    @register_defense("informed")
    class Informed(CLIP):
        def observed(self) -> dict[str, NDArray[Any]]:
            return {"safe": known}

    matrix = small_matrix(f"attack.rate={RATE}", defenses=["informed"])
    poisoned = matrix.workspace.pairs(matrix.cells[-1].spec).poisoned
    known = ~poisoned
    store = Store.create(tmp_path)
    assert execute(matrix, store)[0] == {"done": 1}
    (curve,) = raw(store.run_record(matrix.cells[-1].key))["curves"]
    assert (curve["safe_poisons"], curve["safe_poison_recall"]) == (0, 0.0)
    with pytest.raises(AssertionError):
        assert_no_better_than_chance(poisoned, poisoned)
