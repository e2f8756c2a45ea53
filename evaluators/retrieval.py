"""Retrieval of held-out pairs."""

from __future__ import annotations

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, Predictions
from bench.evaluators.ranking import AT, best_ranks, numbered, shares
from bench.registry import register_evaluator


@register_evaluator("retrieval")
class Retrieval(Evaluator):
    """Recall at 1, 5 and 10 between held-out images and captions (Radford et al. 2021).

    `text_to_image` ranks all held-out images by cosine similarity for each caption, `image_to_text` all captions for each
    image. Recall at k is the share of queries with a match among the first k. Pairs with the same caption all match. In a tie
    wrong answers come first, so that a model with a single embedding has recall 0.

    Deviations:
    - Pairs are the data set's test pairs with one caption for each image, not five as in COCO and Flickr30k; numbers of
      different data sets or sizes are not comparable.
    """

    citations = ("radford2021clip",)
    metrics = tuple(Metric(name=f"recall_at_{k}", description=f"queries with a right answer among the {k} best") for k in AT)

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        return None if len(bundle.test) else "the data set has no held-out pairs"

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        pairs = ctx.bundle.test
        images, texts = ctx.model.image_features(pairs.images), ctx.model.text_features(pairs.captions)
        same = numbered(pairs.captions)
        measurements = []
        for task, queries, gallery in (("text_to_image", texts, images), ("image_to_text", images, texts)):
            ranks = best_ranks(queries, gallery, lambda rows: same[rows, None] == same)
            ctx.keep(Predictions(task, uids=pairs.uids, place=ranks))
            measurements += shares("recall_at_{}", task, ranks)
        return measurements
