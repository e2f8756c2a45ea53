"""Trusted pairs and their labels reveal nothing about other pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .leakage import RATE, prepared_trainer, trial
from .small import small_matrix


def test_labels_of_all_pairs_are_refused(registries: None, tmp_path: Path) -> None:
    def unlabelled(setup: Any) -> NDArray[np.int64]:
        return np.flatnonzero(setup.labels(np.arange(setup.pairs)) < 0)

    with pytest.raises(ValueError, match="is not trusted"):
        trial(tmp_path, unlabelled)


def test_refused_labels_reveal_nothing(registries: None, tmp_path: Path) -> None:
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

    found, pairs = trial(tmp_path, refused)
    assert len(answers) == len(pairs) + 1 - 20
    assert len(set(answers.values())) == 1
    assert found[pairs.poisoned].all()


def test_smaller_draws_of_trusted_pairs_are_contained_in_larger_ones(registries: None, tmp_path: Path) -> None:
    largest: list[NDArray[np.int64]] = []

    def never_trusted(setup: Any) -> NDArray[np.int64]:
        most = setup.pairs // 2
        union = {pair for count in (*range(most + 1), 5, most) for pair in setup.trusted(count).tolist()}
        largest.append(setup.trusted(most))
        assert union == set(largest[0].tolist())
        assert len(union) == most
        return np.setdiff1d(np.arange(setup.pairs), [*union])

    found, pairs = trial(tmp_path, never_trusted)
    assert not pairs.poisoned[largest[0]].any()
    assert found.sum() == len(pairs) - len(pairs) // 2  # half of the pairs is what is left, however often one asks


def test_draws_of_trusted_pairs_are_nested_and_known_to_be_clean(registries: None, tmp_path: Path) -> None:
    matrix = small_matrix(f"attack.rate={RATE}")
    trainer = prepared_trainer(matrix, tmp_path)
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
        with pytest.raises(ValueError, match="half of all pairs"):
            draw(count)
    drawn[:] = -1  # what is given away is a copy
    assert set(draw(count=20).tolist()) <= before


def test_labels_of_trusted_pairs_match_their_images(registries: None, tmp_path: Path) -> None:
    """Against the clean data, found again by its pixels."""
    matrix = small_matrix(f"attack.rate={RATE}")
    trainer, clean = prepared_trainer(matrix, tmp_path), matrix.workspace.bundle.train
    setup = trainer.defense.setup
    drawn = setup.trusted(60)
    members = {clean.images.load(np.array([row])).numpy().tobytes(): clean.members[row] for row in range(len(clean))}
    shown = [members[trainer.pairs.load(np.array([row])).numpy().tobytes()] for row in drawn]
    assert setup.labels(drawn[::-1]).tolist() == [(*each, -1)[0] for each in shown][::-1]
    assert setup.labels(drawn).dtype == np.int64


def test_trusted_pairs_do_not_reveal_the_positions_of_poisons(registries: None, tmp_path: Path) -> None:
    """A generator whose draws of clean pairs can be repeated tells how many poisons lie before each of them."""
    ranks: list[float] = []

    def repeated(setup: Any) -> NDArray[np.int64]:
        half = setup.pairs // 2
        drawn, clean = setup.trusted(half), 256
        guesses = (setup.rng("trusted").choice(clean, half, replace=False), setup.rng("trusted").permutation(clean)[:half])
        ranks.extend(float(np.mean(np.diff(drawn - np.sort(guess)) >= 0)) for guess in guesses)
        return np.array([], dtype=np.int64)

    trial(tmp_path, repeated)
    assert max(ranks) < 1  # with the right guess the number of poisons before a pair never falls
