"""Certified accuracy of nearest-neighbour votes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, Params, wilson
from bench.data.mentions import MentionIndex
from bench.evaluators.votes import general, insert_only_knn, insert_only_rnn, jointly_correct, knn, radius_of, rnn
from bench.registry import register_evaluator

_AXIS = "poisoned pairs"


class CertificateParams(Params):
    votes: float = Field(
        default=0.8, gt=0, description="neighbours that vote, of kNN and on average of rNN, as a share of the mean size of a class"
    )
    points: int = Field(default=1000, ge=1, description="at most so many test points, drawn by seed")


@register_evaluator("certificate")
class Certificate(Evaluator):
    """Certified accuracy of kNN and rNN votes against e poisoned pairs, as a curve over e (Jia et al. 2022, AAAI).

    It is the accuracy on the attack's probe images, of what they show, that no choice of e poisoned pairs can bring a
    nearest-neighbour vote below: training pairs vote with the class that their caption names (others do not vote), by the
    distance of unit image features. `general`: e pairs are added, removed or replaced, and a prediction stays where
    e <= ceil(gap / 2) - 1; `insert`: pairs are only added, the threat of this project's web poison. `joint`: the same poison
    for all test points, in groups of distinct classes.

    What it does not cover: the features. They come from the undefended model trained without the attack's poison, which a
    defender who starts from the web does not have, and whatever poison reached that model's own training is outside the
    guarantee. Neither is it the accuracy of the model under test, which it does not look at: it is what a certificate would
    cost on this data, and stands beside no attack's success rate. The report draws the attack's own number of poisons.

    Deviations: features of CLIP and Euclidean distance, there pixels or given features and L1; k is 0.8 of a class, there
    5,000 of about 6,000 images of MNIST; the radius is the one within which pairs of held-out images lie as often as k of n
    training pairs, so that no poison moves it. Of equal votes the first class wins. The insert-only bound of kNN is exact and
    counts which of the k neighbours are pushed out; the joint bound is as reconstructed: w flips of points with distinct
    predictions take gaps of (w + 1) e in all, for a removed pair has one label and an added one may serve all.
    """

    citations = ("jia2022certified",)
    Params = CertificateParams
    params: CertificateParams
    metrics = tuple(
        Metric(name=name, role="curve", axis=_AXIS, description=f"certified accuracy of {name}")
        for name in ("knn_general", "knn_insert", "rnn_general", "rnn_insert", "rnn_joint")
    )
    needs_attack = True
    needs_clean_model = True

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        return None if len(bundle.test) else "the data set has no held-out pairs"

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        voters, classes = _voters(ctx)
        points, shown = self._points(ctx)
        n, count = len(classes), len(ctx.bundle.vocabulary.names)
        k = min(n, max(1, round(self.params.votes * n / len(np.unique(classes)))))
        radius = radius_of(ctx.clean_model().image_features(ctx.bundle.test.images), k / n)
        neighbours, near = knn(points, voters, classes, k), rnn(points, voters, classes, radius, count)
        votes = np.stack([np.bincount(row, minlength=count) for row in neighbours])
        predicted, gaps = general(near)
        correct = _correct(predicted, shown)
        sizes = {
            "knn_general": np.where(_correct(general(votes)[0], shown), (general(votes)[1] - 1) // 2, -1),
            "knn_insert": np.where(_correct(general(votes)[0], shown), insert_only_knn(neighbours, count), -1),
            "rnn_general": np.where(correct, (gaps - 1) // 2, -1),
            "rnn_insert": np.where(correct, insert_only_rnn(gaps), -1),
        }
        measurements = []
        for e in _grid(ctx.poisons, n):
            stand = {name: int((size >= e).sum()) for name, size in sizes.items()}
            stand["rnn_joint"] = jointly_correct(gaps[correct], predicted[correct], e)
            measurements += [_share(name, e, hits, len(points)) for name, hits in stand.items()]
        return measurements

    def _points(self, ctx: EvalContext) -> tuple[torch.Tensor, list[tuple[int, ...]]]:
        """Features of the probe images whose classes are known, (m, d), and the classes that they show."""
        splits = {"holdout": ctx.bundle.holdout.members, "test": ctx.bundle.test.members}
        shown = [splits[probe.split][probe.index] for probe in ctx.probes]
        known = np.flatnonzero([bool(members) for members in shown])
        if not len(known):
            return torch.empty(0, 0), []
        rng = np.random.default_rng([ctx.seed, *b"certificate"])
        rows = np.sort(rng.permutation(known)[: self.params.points])
        return ctx.clean_model().image_features(ctx.probe_images())[rows], [shown[row] for row in rows]
