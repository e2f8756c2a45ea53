"""Certified accuracy of nearest-neighbour votes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.api import DatasetBundle, EvalContext, Evaluator, FrozenModel, Measurement, Metric, Params, wilson
from bench.data.mentions import MentionIndex
from bench.evaluators import votes
from bench.models import pretrained
from bench.models.frozen import FrozenClip
from bench.registry import register_evaluator

_SAMPLE = 2048
_CURVES = {
    "knn_general": "kNN; pairs are added, removed or replaced",
    "knn_insert": "kNN; pairs are added",
    "rnn_general": "rNN; pairs are added, removed or replaced",
    "rnn_insert": "rNN; pairs are added",
    "rnn_joint": "rNN; the same pairs for all test points, added, removed or replaced",
}


class CertificateParams(Params):
    model: str = Field(
        default="",
        description="model of the features, MODEL:TAG or MODEL:FILE; empty: the clean model of the floor",
    )
    votes: float = Field(
        default=0.8, gt=0, description="number of neighbours, for rNN on average, as a share of the mean class size"
    )
    points: int = Field(default=1000, ge=1, description="maximum number of test points, drawn at random")

    @field_validator("model")
    @classmethod
    def _identified(cls, model: str) -> str:
        return pretrained.identified(model) if model else model


@register_evaluator("certificate")
class Certificate(Evaluator):
    """Certified accuracy of kNN and rNN votes against e poisoned pairs, as a curve over e (Jia et al. 2022, AAAI).

    A lower bound on the accuracy of a nearest-neighbour vote on the attack's probe images, whichever e pairs are poisoned.
    Training pairs vote for the class that their caption names, at the distance of unit-length image features; pairs that name
    none do not vote. A prediction with gap g to the next class stands if e <= ceil(g / 2) - 1 pairs are added, removed or
    replaced. In the `insert` curves pairs are only added, as in poisoning of web data. The report marks the number of poisons
    of the attack.

    The guarantee covers the vote alone, on features that the poison never touched: those of the clean model of the same seed,
    which a defender would not have, or of given weights, whose own training is outside the guarantee. It says nothing about
    the model of the cell and is the same for every defense. It shows what a certificate costs on this data, and is not an ASR.

    Deviations:
    - Euclidean distance, where the paper's is L1 (as reconstructed, with k = 5,000 of 60,000 MNIST images).
    - k is 0.8 of the mean class size.
    - The radius of rNN holds the same share of pairs of held-out images as k is of the voters; training pairs do not move it.
    - The insert-only sizes are derived here; the one of kNN is exact. The joint bound is as reconstructed.
    """

    citations = ("jia2022certified",)
    Params = CertificateParams
    params: CertificateParams
    metrics = tuple(
        Metric(name=name, description=f"certified accuracy of {what}", role="curve", axis="poisoned pairs")
        for name, what in _CURVES.items()
    )
    needs_attack = True
    needs_probes = True
    needs_clean_model = True

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        return None if len(bundle.test) > 1 else "the data set has no held-out pairs"

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        rows, shown = self._points(ctx)
        index = MentionIndex.of(ctx.bundle.vocabulary)
        named = np.array([(*index.members(caption), -1)[0] for caption in ctx.bundle.train.captions])
        classes, count = named[named >= 0], len(ctx.bundle.vocabulary.names)
        if not len(rows) or not len(classes):
            return []
        model = self._model(ctx)
        points, voters = (
            model.image_features(ctx.probe_images())[rows],
            model.image_features(ctx.bundle.train.images)[named >= 0],
        )
        k = min(len(classes), max(1, round(self.params.votes * len(classes) / len(np.unique(classes)))))
        least = _least(model.image_features(ctx.bundle.test.images), k / len(classes))
        near = votes.knn(points, voters, classes, k)
        predicted, gaps = votes.decided(np.stack([np.bincount(row, minlength=count) for row in near]))
        right = shown[np.arange(len(rows)), predicted]
        within, within_gaps = votes.decided(votes.rnn(points, voters, classes, least, count))
        right_within = shown[np.arange(len(rows)), within]
        sizes = {
            "knn_general": votes.general_sizes(gaps)[right],
            "knn_insert": votes.inserted_knn_sizes(near, count)[right],
            "rnn_general": votes.general_sizes(within_gaps)[right_within],
            "rnn_insert": votes.inserted_rnn_sizes(within_gaps)[right_within],
        }
        measured = []
        for e in _grid(len(ctx.bundle.train), ctx.poisons):
            stand = {name: int((found >= e).sum()) for name, found in sizes.items()}
            stand["rnn_joint"] = votes.stand_jointly(within_gaps[right_within], within[right_within], e)
            measured += [_share(name, e, stand[name], len(rows)) for name in _CURVES]
        return measured

    def _points(self, ctx: EvalContext) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the probes with known classes, int64 (m,), and the classes that they show, bool (m, classes)."""
        members = {"holdout": ctx.bundle.holdout.members, "test": ctx.bundle.test.members}
        shown = np.zeros((len(ctx.probes), len(ctx.bundle.vocabulary.names)), dtype=bool)
        for row, probe in enumerate(ctx.probes):
            shown[row, list(members[probe.split][probe.index])] = True
        rng = np.random.default_rng([ctx.seed, *b"certificate"])
        rows = np.sort(rng.permutation(np.flatnonzero(shown.any(axis=1)))[: self.params.points])
        return rows, shown[rows]

    def _model(self, ctx: EvalContext) -> FrozenModel:
        if not self.params.model:
            return ctx.clean_model()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return FrozenClip(*pretrained.load(self.params.model, "fp32", device))


def _least(features: torch.Tensor, part: float) -> float:
    """The similarity that a share `part` of the pairs of distinct rows reaches, estimated on the first 2,048 rows."""
    rows = features[:_SAMPLE]
    above = torch.triu_indices(len(rows), len(rows), offset=1)
    return float(np.quantile((rows @ rows.T)[above[0], above[1]].numpy(), 1 - part))


def _grid(pairs: int, poisons: int) -> list[int]:
    """0, powers of 2 up to the number of training pairs, and the attack's number of poisons."""
    return sorted({0, poisons, *(2**power for power in range(pairs.bit_length()))})


def _share(metric: str, e: int, hits: int, n: int) -> Measurement:
    low, high = wilson(hits, n)
    return Measurement(metric=metric, task=str(e), value=hits / n, n=n, ci_low=low, ci_high=high)
