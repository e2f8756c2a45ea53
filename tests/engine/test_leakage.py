"""Defenses that try to find out, by what they are given, which pairs are poisoned: none learns more than chance tells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.api import Batch, DatasetBundle, Encoder, Phase, PoisonPlan, Scorer
from bench.data.poisoned import PoisonedPairs
from bench.defenses.clip import CLIP
from bench.matrix import cell as cells
from bench.matrix.expand import Matrix
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.registry import register_defense
from bench.testing import small
from bench.training.telemetry import first_look, poison_telemetry
from bench.training.trainer import Trainer

from .small import raw, small_matrix
from .training import Recorder, execute

RATE = 0.2
"""Of 256 pairs, so that chance is known well."""


def _trainer(matrix: Matrix, folder: Path) -> Trainer:
    runtime = Runtime(torch.device("cpu"), Recorder(), lambda: False)
    trainer, _ = cells.prepare(matrix.cells[-1], matrix.workspace, Store.create(folder), runtime)
    return trainer


def _trial(
    folder: Path, suspected: Callable[[Any], NDArray[np.int64]], seed: int = 0
) -> tuple[NDArray[np.bool_], PoisonedPairs]:
    """Which pairs a defense that may ask its setup anything calls poisoned, bool (pairs,), and the pairs."""

    @register_defense(f"cheat{seed}")
    class Cheat(CLIP):
        def phases(self, epoch: int) -> Sequence[Phase]:
            kept = np.ones(self.setup.pairs, dtype=bool)
            kept[suspected(self.setup)] = False
            return (Phase(indices=np.flatnonzero(kept)),)

    trainer = _trainer(small_matrix(f"attack.rate={RATE}", defenses=[f"cheat{seed}"], seeds=[seed]), folder)
    kept = np.zeros(len(trainer.pairs), dtype=bool)
    kept[trainer.defense.phases(0)[0].indices] = True
    return ~kept, trainer.pairs


def _gains_nothing(found: NDArray[np.bool_], poisoned: NDArray[np.bool_]) -> None:
    """The share of poisons among the suspects is that of all pairs, within four standard deviations of a random draw."""
    n, rate = found.sum(), poisoned.mean()
    spread = 4 * np.sqrt(rate * (1 - rate) * (1 - n / len(found)) / max(n, 1))
    assert abs(poisoned[found].mean() - rate) <= spread + 1e-9 if n else True, (int(n), float(poisoned[found].mean()), rate)


def test_labels_of_all_pairs_are_refused(registries: None, tmp_path: Path) -> None:
    def unlabelled(setup: Any) -> NDArray[np.int64]:
        return np.flatnonzero(setup.labels(np.arange(setup.pairs)) < 0)

    with pytest.raises(ValueError, match="is not trusted"):
        _trial(tmp_path, unlabelled)


def test_a_refused_label_is_no_hint(registries: None, tmp_path: Path) -> None:
    """Whoever asks pair by pair learns which are trusted, as `trusted` itself told, and nothing of the others."""
    answers: dict[int, str] = {}

    def refused(setup: Any) -> NDArray[np.int64]:
        setup.trusted(20)
        for pair in range(-1, setup.pairs):
            try:
                setup.labels(np.array([pair]))
            except ValueError as error:
                answers[pair] = str(error).replace(f"pair {pair} ", "")
        return np.array([pair for pair in answers if pair >= 0])

    found, pairs = _trial(tmp_path, refused)
    assert len(answers) == len(pairs) + 1 - 20
    assert len(set(answers.values())) == 1
    assert found[pairs.poisoned].all()


def test_many_draws_of_trusted_pairs_are_no_more_than_the_largest(registries: None, tmp_path: Path) -> None:
    largest: list[NDArray[np.int64]] = []

    def never_trusted(setup: Any) -> NDArray[np.int64]:
        most = setup.pairs // 2
        union = {pair for count in (*range(most + 1), 5, most) for pair in setup.trusted(count).tolist()}
        largest.append(setup.trusted(most))
        assert union == set(largest[0].tolist())
        assert len(union) == most
        return np.setdiff1d(np.arange(setup.pairs), [*union])

    found, pairs = _trial(tmp_path, never_trusted)
    assert not pairs.poisoned[largest[0]].any()
    assert found.sum() == len(pairs) - len(pairs) // 2  # half of the pairs is what is left, however often one asks


def test_draws_of_trusted_pairs_are_nested_and_known_to_be_clean(registries: None, tmp_path: Path) -> None:
    matrix = small_matrix(f"attack.rate={RATE}")
    trainer = _trainer(matrix, tmp_path)
    draw = trainer.defense.setup.trusted
    before: set[int] = set()
    for count in range(len(trainer.pairs) // 2 + 1):
        drawn = draw(count)
        assert drawn.dtype == np.int64
        assert (np.diff(drawn) > 0).all()
        assert len(drawn) == count
        assert before <= set(drawn.tolist())
        assert not trainer.pairs.poisoned[drawn].any()
        before = set(drawn.tolist())
    for count in (len(trainer.pairs) // 2 + 1, -1):
        with pytest.raises(ValueError, match="half of all at most"):
            draw(count)
    drawn[:] = -1  # what is given away is a copy
    assert set(draw(count=20).tolist()) <= before


def test_trusted_pairs_show_what_their_labels_say(registries: None, tmp_path: Path) -> None:
    """Against the clean data, found again by its pixels."""
    matrix = small_matrix(f"attack.rate={RATE}")
    trainer, clean = _trainer(matrix, tmp_path), matrix.workspace.bundle.train
    setup = trainer.defense.setup
    drawn = setup.trusted(60)
    members = {clean.images.load(np.array([row])).numpy().tobytes(): clean.members[row] for row in range(len(clean))}
    shown = [members[trainer.pairs.load(np.array([row])).numpy().tobytes()] for row in drawn]
    assert setup.labels(drawn[::-1]).tolist() == [(*each, -1)[0] for each in shown][::-1]
    assert setup.labels(drawn).dtype == np.int64


def _seed_of(*parts: Any) -> int:
    """As in the engine, from its documentation of seeds: the first 63 bits of the sha256 of the canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_permutation_cannot_be_rebuilt_from_any_seed_that_can_be_guessed(
    registries: None, tmp_path: Path, seed: int
) -> None:
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

    found, pairs = _trial(tmp_path, rebuilt, seed)
    assert not betrayed
    _gains_nothing(found, pairs.poisoned)
    for parts in (("order", seed), ("order", seed, None)):
        order = np.random.default_rng(_seed_of(*parts, "positions")).permutation(len(pairs))
        _gains_nothing(order >= 256, pairs.poisoned)


def test_trusted_pairs_do_not_betray_the_ranks_of_poisons(registries: None, tmp_path: Path) -> None:
    """A generator whose draws of clean pairs can be repeated tells how many poisons lie before each of them."""
    ranks: list[float] = []

    def repeated(setup: Any) -> NDArray[np.int64]:
        half = setup.pairs // 2
        drawn, clean = setup.trusted(half), 256
        guesses = (setup.rng("trusted").choice(clean, half, replace=False), setup.rng("trusted").permutation(clean)[:half])
        ranks.extend(float(np.mean(np.diff(drawn - np.sort(guess)) >= 0)) for guess in guesses)
        return np.array([], dtype=np.int64)

    _trial(tmp_path, repeated)
    assert max(ranks) < 1  # with the right guess the number of poisons before a pair never falls


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


def test_what_a_defense_is_given_does_not_hold_the_poison(registries: None, tmp_path: Path) -> None:
    given: list[object] = []

    @register_defense("curious")
    class Curious(CLIP):
        def before_epoch(self, epoch: int, scorer: Scorer) -> None:
            given.extend([scorer, scorer.similarities, scorer.embeddings])

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            given.extend([batch, encoder, phase])
            return super().loss(batch, encoder, phase)

    trainer = _trainer(small_matrix(defenses=["curious"]), tmp_path)
    trainer.run()
    secrets = (PoisonedPairs, PoisonPlan, DatasetBundle)
    setup = trainer.defense.setup
    for start in (setup, *given):
        assert not [each for each in _reachable(start, closures=False) if isinstance(each, secrets)]
    for function in (setup.rng, setup.trusted, setup.labels):
        told = list(_reachable(function, closures=True))
        assert not [each for each in told if isinstance(each, secrets) or each == trainer.pairs.digest]


def test_the_order_follows_from_the_poison_and_not_from_what_crafting_adds(registries: None) -> None:
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


def test_what_a_defense_shows_of_its_pairs_does_not_meet_the_mask() -> None:
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


def test_the_pairs_that_a_defense_asks_for_do_not_meet_the_mask(registries: None, tmp_path: Path) -> None:
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
    _trainer(small_matrix(defenses=["asking"]), tmp_path).run()
    masks = [each for each in _Spy.met if isinstance(each, np.ndarray) and each.dtype == bool]
    assert not masks


def test_the_first_look_is_in_the_order_of_the_pairs() -> None:
    """A hook in the encoder sees what is scored: not the poisons before the others."""
    asked: list[NDArray[np.int64]] = []

    class Scored:
        def similarities(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
            asked.append(rows)
            return np.zeros(len(rows), dtype=np.float32)

    first_look(Scored(), np.arange(500) % 50 == 0, np.random.default_rng(0))  # type: ignore[arg-type]
    assert (np.diff(asked[0]) > 0).all()


def test_the_share_of_poisons_on_record_is_that_of_the_trial(registries: None, tmp_path: Path) -> None:
    """The measure that the trials above rest on, against a defense that is told."""

    @register_defense("told")
    class Told(CLIP):
        def observed(self) -> dict[str, NDArray[Any]]:
            return {"safe": known}

    matrix = small_matrix(f"attack.rate={RATE}", defenses=["told"])
    poisoned = matrix.workspace.pairs(matrix.cells[-1].spec).poisoned
    known = ~poisoned
    store = Store.create(tmp_path)
    assert execute(matrix, store)[0] == {"done": 1}
    (curve,) = raw(store.run_record(matrix.cells[-1].key))["curves"]
    assert (curve["safe_poisons"], curve["safe_poison_recall"]) == (0, 0.0)
    with pytest.raises(AssertionError):
        _gains_nothing(poisoned, poisoned)
