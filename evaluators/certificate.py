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
        default="", description="features as MODEL:WEIGHTS, a tag or file of open_clip; empty: the floor's model"
    )
    votes: float = Field(
        default=0.8, gt=0, description="neighbours, those of rNN on average, as a share of a class's mean size"
    )
    points: int = Field(default=1000, ge=1, description="at most so many test points, drawn by seed")

    @field_validator("model")
    @classmethod
    def _identified(cls, model: str) -> str:
        return pretrained.identified(model) if model else model


@register_evaluator("certificate")
class Certificate(Evaluator):
    """Certified accuracy of kNN and rNN votes against e poisoned pairs, as a curve over e (Jia et al. 2022, AAAI).

    The accuracy on the attack's probe images, of what they show, below which no e poisoned pairs can bring a vote of nearest
    neighbours. Training pairs vote with the class that their caption names, others not, by the distance of unit image
    features. A prediction whose gap to the next class is g stands where e <= ceil(g / 2) - 1, if pairs are added, removed or
    replaced; `insert` is the threat of poison from the web, to which nobody's pairs are lost. The report draws the number of
    the attack's own poisons.

    It covers the vote alone. The features must be none that the poison touched: they are those of the undefended model of the
    same seed trained without poison, which is more than a defender would have, or of weights from elsewhere; whatever is in
    these models' own training is outside the guarantee. It says nothing about the model of the cell, which it never looks at,
    and is the same beside every defense: what a certificate costs on this data, not a success rate.

    Deviations: Euclidean distance of CLIP's features, where the paper's is L1 (as reconstructed, with k of 5,000 among 60,000
    images of MNIST); k is 0.8 of a class's mean size; the radius is that within which pairs of held-out images lie as often as
    k of the voters, so that no training pair moves it; of equal votes the first class wins. The insert-only sizes are derived
    here, that of kNN is exact; the joint bound is as reconstructed.
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
        """Probes whose classes are known, int64 (m,), and which classes they show, bool (m, classes)."""
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
    """The similarity that this part of the pairs of distinct rows reach; of many rows the first are taken."""
    rows = features[:_SAMPLE]
    above = torch.triu_indices(len(rows), len(rows), offset=1)
    return float(np.quantile((rows @ rows.T)[above[0], above[1]].numpy(), 1 - part))


def _grid(pairs: int, poisons: int) -> list[int]:
    """0, the powers of 2 up to the number of training pairs, and the attack's own number of poisons."""
    return sorted({0, poisons, *(2**power for power in range(pairs.bit_length()))})


def _share(metric: str, e: int, hits: int, n: int) -> Measurement:
    low, high = wilson(hits, n)
    return Measurement(metric=metric, task=str(e), value=hits / n, n=n, ci_low=low, ci_high=high)
