"""Telemetry that needs to know which pairs are poisoned, computed outside the defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import Phase
from bench.data.poisoned import PoisonedPairs
from bench.training.scorer import PairScorer

BINS = 40
_SAMPLE = 2048


def clip_steps(phases: Sequence[Phase], epoch: Mapping[str, float], pairs: int) -> dict[str, int]:
    """Steps, and distinct pairs, of an epoch's phases with `clip_loss`; `epoch` are the numbers of its meter."""
    spent = [phase for phase in phases if phase.clip_loss]
    steps = sum(int(epoch.get(f"steps_{name}", 0)) for name in {phase.name for phase in spent})
    chosen = [phase.indices for phase in spent if phase.indices is not None]
    count = pairs if len(chosen) < len(spent) else len(np.unique(np.concatenate([*chosen, np.array([], dtype=np.int64)])))
    return {"clip_steps": steps, "clip_pairs": count}


def sampled_histograms(scorer: PairScorer, poisoned: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, list[int]]:
    """Similarity histograms as in `poison_telemetry`, of all poisons and a sample of clean pairs."""
    clean = np.flatnonzero(~poisoned)
    rows = np.sort(np.concatenate([np.flatnonzero(poisoned), rng.permutation(clean)[:_SAMPLE]]))
    return _histograms(scorer.similarities(rows), poisoned[rows])


def poison_telemetry(observed: Mapping[str, NDArray[Any]], poisoned: NDArray[np.bool_]) -> dict[str, Any]:
    """Poisons in the defense's safe set, and similarity histograms of clean and poisoned pairs.

    Parameters
    ----------
    observed : mapping of str to ndarray
        `Defense.observed()`, arrays of shape (pairs,).
    poisoned : ndarray of bool, shape (pairs,)

    Returns
    -------
    dict
        safe_poisons : number of poisons in the safe set.
        safe_poison_rate : their share of the safe set.
        safe_poison_recall : their share of all poisons.
        similarity_clean, similarity_poison : counts in `BINS` equal bins over [-1, 1].
        image_neighbour_poisons, text_neighbour_poisons : share of poisons among the neighbours of clean pairs.
        reference_poisons : mean number of poisons in the reference set of a poisoned pair.
    """
    found: dict[str, Any] = {}
    observed = {name: np.array(values) for name, values in observed.items()}  # a subclass could record how it is indexed
    if "safe" in observed:
        safe = observed["safe"]
        inside = int((safe & poisoned).sum())
        found["safe_poisons"] = inside
        found["safe_poison_rate"] = inside / max(1, int(safe.sum()))
        found["safe_poison_recall"] = inside / max(1, int(poisoned.sum()))
    if "similarity" in observed:
        found |= _histograms(observed["similarity"], poisoned)
    for name in ("image_neighbour", "text_neighbour"):
        if name in observed:
            neighbours = observed[name][~poisoned]
            met = neighbours[neighbours >= 0]
            if len(met):
                found[f"{name}_poisons"] = float(poisoned[met].mean())
    if "reference" in observed and poisoned.any():
        found["reference_poisons"] = _companions(observed["reference"][poisoned])
    return found


def _companions(sets: NDArray[np.int64]) -> float:
    """How many there are of a member's set, the mean over members; sets: int64 (n,), n > 0."""
    _, counts = np.unique(sets, return_counts=True)
    return float((counts**2).sum() / counts.sum())


def similarity_map(scorer: PairScorer, pairs: PoisonedPairs, names: Sequence[str]) -> dict[str, Any] | None:
    """Image-caption cosine similarities of seven training pairs of three classes, as in Figure 1 of Yang et al. 2024.

    Returns {"labels": names of the pairs, "values": rows are images, columns captions}. The last pair is a poison, if there
    is any. The classes are the first three among the first pairs; None if these show fewer.
    """
    labels = pairs.labels(np.arange(min(len(pairs), _SAMPLE)))
    shown = {name: np.flatnonzero(labels == name) for name in dict.fromkeys(labels[labels >= 0].tolist())}
    classes = [name for name, rows in shown.items() if len(rows) >= 3][:3]
    if len(classes) < 3:
        return None
    counts = zip(classes, (3, 2, 2), strict=True)
    chosen = [(f"{names[name]} {n + 1}", shown[name][n]) for name, count in counts for n in range(count)]
    poisons = np.flatnonzero(pairs.poisoned)
    if len(poisons):
        chosen = [*chosen[:2], *chosen[3:], ("poison", poisons[0])]
    images, texts = scorer.embeddings(np.array([row for _, row in chosen]))
    return {"labels": [label for label, _ in chosen], "values": (images @ texts.T).cpu().tolist()}


def _histograms(similarity: NDArray[np.float32], poisoned: NDArray[np.bool_]) -> dict[str, list[int]]:
    found = {}
    for name, rows in (("clean", ~poisoned), ("poison", poisoned)):
        counts, _ = np.histogram(np.clip(similarity[rows], -1, 1), bins=BINS, range=(-1, 1))
        found[f"similarity_{name}"] = counts.tolist()
    return found
