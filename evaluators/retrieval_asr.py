"""Attack success in retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from bench.api import EvalContext, Evaluator, FrozenModel, Measurement, Metric, Predictions
from bench.data.mentions import MentionIndex
from bench.evaluators import probes
from bench.evaluators.ranking import AT, best_ranks, shares
from bench.registry import register_evaluator


@register_evaluator("retrieval_asr")
class RetrievalASR(Evaluator):
    """Share of the attack's queries that retrieve the adversary's class, Hit@k (Yang et al. 2023, ICML; Yao et al. 2025).

    `image_to_text`: a probe image, triggered or targeted, is a hit if one of the k most similar held-out captions names the
    adversary's class. `text_to_image`, for attacks on captions: a triggered caption is a hit if one of the k most similar
    held-out images shows the class. In a tie other classes come first. The floor is that of the clean model.

    Deviations:
    - The gallery is the data set's test pairs, each distinct caption once. Queries whose class is not in it are left out.
    - All queries count; the released code of Yao et al. 2025 ranks the last batch alone.
    """

    citations = ("yang2023multimodal", "yao2025toxictextclip")
    metrics = (
        *(Metric(name=f"hit_at_{k}", better="lower", description=f"queries with the class among the {k} best") for k in AT),
        *(
            Metric(name=f"hit_at_{k}_floor", better="neither", description="the same on a model trained without poison")
            for k in AT
        ),
    )
    needs_attack = True
    needs_clean_model = True

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        measurements: list[Measurement] = []
        own: dict[str, Predictions] = {}
        for metric, model in (("hit_at_{}", ctx.model), ("hit_at_{}_floor", ctx.clean_model())):
            for task, asked, queries, gallery, members in _searches(ctx, model):
                shown = torch.zeros(len(ctx.bundle.vocabulary.names), len(members), dtype=torch.bool)
                for item, classes in enumerate(members):
                    shown[list(classes), item] = True
                right = shown[[label for _, _, label in asked]]
                rows = right.any(dim=1).nonzero().flatten()
                if not len(rows):
                    continue
                ranks = best_ranks(queries[rows], gallery, right[rows].__getitem__)
                measurements += shares(metric, task, ranks)
                if task in own:
                    ctx.keep(replace(own[task], place_clean=ranks))
                else:
                    uids, groups, labels = zip(*(asked[row] for row in rows), strict=True)
                    names = ctx.bundle.vocabulary.names
                    own[task] = Predictions(task, names, uids, target=np.array(labels), place=ranks, groups=groups)
        return measurements


_Asked = tuple[str, str, int]
"""Of a query its uid, its group and its class."""
_Search = tuple[str, Sequence[_Asked], torch.Tensor, torch.Tensor, Sequence[tuple[int, ...]]]


def _searches(ctx: EvalContext, model: FrozenModel) -> Iterator[_Search]:
    """For each task its name, what is asked, the queries (n, d), the gallery (m, d) and the classes of its items."""
    pairs = ctx.bundle.test
    captions = list(dict.fromkeys(pairs.captions))
    named = MentionIndex.of(ctx.bundle.vocabulary)
    if ctx.probes:
        asked = list(zip(probes.uids(ctx), probes.groups(ctx), (probe.label for probe in ctx.probes), strict=True))
        members = [named.members(caption) for caption in captions]
        yield "image_to_text", asked, model.image_features(ctx.probe_images()), model.text_features(captions), members
    if ctx.queries:
        asked = [(f"query/{number}", query.group, query.label) for number, query in enumerate(ctx.queries)]
        texts = model.text_features([query.text for query in ctx.queries])
        yield "text_to_image", asked, texts, model.image_features(pairs.images), pairs.members
