"""BDetCLIP: triggered images are found at test time."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, Params, share
from bench.data.mentions import MentionIndex
from bench.evaluators import suspicion
from bench.registry import register_evaluator


class BDetCLIPParams(Params):
    descriptions: int = Field(default=7, ge=1, description="benign texts of a class")
    words: int = Field(default=10, ge=1, description="random words of a malignant text")
    references: int = Field(
        default=200, ge=1, description="clean images that give the threshold; at most half of the held-out ones"
    )


@register_evaluator("bdetclip")
class BDetCLIP(Evaluator):
    """Test-time detection of triggered images by contrastive prompting, BDetCLIP (Niu et al. 2025, ICML).

    An image of an honest class is much nearer to benign descriptions of classes than to malignant ones, class names within
    random words; an image with a trigger is near to both alike. Its score is the sum over classes of the difference between
    its cosine similarities with the means of the two, and it is rejected where that is below the least score of clean
    reference images. Measured between the attack's probe images and held-out images without trigger: whether an image that was
    targeted, but has no trigger, is found is another question, which the paper does not ask.

    `asr_undetected` is the share of probe images that are not rejected and get the adversary's class, to be set beside the
    ASR; `false_alarms` is the price. Deviations: the paper has GPT-4 write both kinds of texts; here benign descriptions are
    random training captions that name the class (its prompts where none does), and malignant ones the data set's prompts, each
    followed by one sentence a class of random words of the training captions. The threshold is that of a public
    re-implementation. Probe and clean images are about as many as each other; AUROC does not depend on it, average precision
    does.
    """

    citations = ("niu2025bdetclip",)
    Params = BDetCLIPParams
    params: BDetCLIPParams
    metrics = (
        *suspicion.METRICS,
        Metric(name="detected", description="probe images that are rejected"),
        Metric(name="false_alarms", better="lower", description="clean images that are rejected"),
        Metric(name="asr_undetected", better="lower", description="probe images not rejected, with the adversary's class"),
    )
    needs_attack = True
    needs_probes = True

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        return None if len(bundle.test) > 1 else "the data set has no held-out images"

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        rng = np.random.default_rng([ctx.seed, *b"bdetclip"])
        direction = self.direction(ctx, rng)
        probes = ctx.model.image_features(ctx.probe_images())
        clean = (ctx.model.image_features(ctx.bundle.test.images) @ direction).numpy()[rng.permutation(len(ctx.bundle.test))]
        references, clean = np.split(clean, [min(self.params.references, len(clean) // 2)])
        scores = (probes @ direction).numpy()
        rejected = scores < references.min()
        answers = (probes @ ctx.model.classifier(ctx.bundle.vocabulary).T).argmax(dim=1).numpy()
        fooled = answers == np.array([probe.label for probe in ctx.probes])
        poisoned = np.arange(len(scores) + len(clean)) < len(scores)
        return [
            *suspicion.ranked("probes", -np.concatenate([scores, clean]), poisoned),
            share("detected", "probes", rejected),
            share("false_alarms", "probes", clean < references.min()),
            share("asr_undetected", "probes", fooled & ~rejected),
        ]

    def direction(self, ctx: EvalContext, rng: np.random.Generator) -> torch.Tensor:
        """What an image's embedding is multiplied with to give its score: float32 (d,)."""
        names, captions = ctx.bundle.vocabulary.names, ctx.bundle.train.captions
        index, words = MentionIndex.of(ctx.bundle.vocabulary), dict[str, None]()
        of_class: list[list[str]] = [[] for _ in names]
        for caption in captions:
            words |= dict.fromkeys(caption.split())
            for name in index.members(caption):
                of_class[name].append(caption)
        neutral = [word for word in words if not index.members(word)] or list(words)
        total = torch.zeros(())
        for prompts, described in zip(ctx.bundle.vocabulary.prompts(), of_class, strict=True):
            chosen = rng.permutation(len(described))[: self.params.descriptions]
            benign = [described[row] for row in chosen] or prompts
            noise = " ".join(rng.choice(neutral, size=self.params.words).tolist())
            total = total + _mean(ctx, benign) - _mean(ctx, [f"{prompt} {noise}" for prompt in prompts])
        return total


def _mean(ctx: EvalContext, texts: list[str]) -> torch.Tensor:
    return F.normalize(ctx.model.text_features(texts).mean(dim=0), dim=0)
