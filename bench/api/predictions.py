"""What an evaluator's means are taken over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What each image, or each text, of a task was given: n rows of `bench.load_predictions`.

    Classes are int (n,), indices into `classes`; -1 is none, or unknown.

    Attributes
    ----------
    task : str
        As in the measurements of these rows.
    classes : tuple of str
        The names of the classes.
    uids : sequence of n str
        Ids of the images or texts, the same in every run; empty for their positions.
    predicted, predicted_clean : int (n,), optional
        The class that the model gives, and the one that the clean model gives.
    true : int (n,), optional
        The class that the image shows; the first, where it shows several.
    target : int (n,), optional
        The adversary's class.
    correct : bool (n,), optional
        Whether the prediction is right, where `true` is known; by default whether it is `true`.
    place, place_clean : int (n,), optional
        The place of the best right answer in a search, from 0, by the model and by the clean model.
    suspicion : float (n,), optional
        The score of a detector, higher for what is more suspicious.
    rejected : bool (n,), optional
        Whether the detector rejects it.
    groups : sequence of n str, or str
        The group of each row, or of all of them.

    Raises
    ------
    ValueError
        If there is no prediction and no place, if columns differ in length, or for a class that is not in `classes`.
    """

    task: str
    classes: tuple[str, ...] = ()
    uids: Sequence[str] = ()
    predicted: Ints | None = None
    predicted_clean: Ints | None = None
    true: Ints | None = None
    target: Ints | None = None
    correct: NDArray[np.bool_] | None = None
    place: Ints | None = None
    place_clean: Ints | None = None
    suspicion: NDArray[np.floating[Any]] | None = None
    rejected: NDArray[np.bool_] | None = None
    groups: Sequence[str] | str = "all"

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        lengths = {name: len(value) for name, value in given.items()}
        lengths |= {"uids": len(self.uids)} if len(self.uids) else {}
        lengths |= {"groups": len(self.groups)} if not isinstance(self.groups, str) else {}
        if not {"predicted", "place"} & given.keys() or not len(self):
            raise ValueError(f"predictions on {self.task}: neither predicted nor place has a row")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"predictions on {self.task}: columns differ in length: {lengths}")
        for name in {"predicted", "predicted_clean", "true", "target"} & given.keys():
            if given[name].min() < -1 or given[name].max() >= len(self.classes):
                raise ValueError(f"predictions on {self.task}: {name} is outside -1..{len(self.classes) - 1}")

    def __len__(self) -> int:
        rows = self.place if self.predicted is None else self.predicted
        return 0 if rows is None else len(rows)
