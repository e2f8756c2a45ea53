"""BDetCLIP: test-time detection of triggered images."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, Params, Predictions, share
from bench.data.mentions import MentionIndex
from bench.evaluators import probes, suspicion
from bench.registry import register_evaluator


class BDetCLIPParams(Params):
    descriptions: int = Field(default=7, ge=1, description="number of benign texts of each class")
    words: int = Field(default=10, ge=1, description="number of random words in a malignant text")
    references: int = Field(
        default=200, ge=1, description="number of clean reference images for the threshold, at most half of the held-out images"
    )


@register_evaluator("bdetclip")
class BDetCLIP(Evaluator):
    """Test-time detection of triggered images by contrastive prompting, BDetCLIP (Niu et al. 2025, ICML).

    A clean image is much closer to benign descriptions of classes than to malignant ones, which hide the class name among
    random words; a triggered image is about equally close to both. The score of an image is the sum over classes of the
    difference between its cosine similarities to the means of the two. An image is rejected if its score is below that of all
    clean reference images. Probe images are compared with held-out clean images.

    `asr_undetected` is the share of probe images that are not rejected and are classified as the adversary's class;
    compare it with the ASR. `false_alarms` is the price.

    Deviations:
    - The paper has GPT-4 write the texts. Here benign descriptions are random training captions that name the class (its
      prompts if there are none), and malignant texts are the prompts followed by random words of the training captions.
    - The threshold is that of a public re-implementation.
    - There are about as many probe as clean images, on which average precision depends.
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
        held_out = ctx.model.image_features(ctx.bundle.test.images)
        references, clean = np.split(rng.permutation(len(held_out)), [min(self.params.references, len(held_out) // 2)])
        features = torch.cat([ctx.model.image_features(ctx.probe_images()), held_out[clean]])
        scores, triggered = (features @ direction).numpy(), np.arange(len(features)) < len(ctx.probes)
        rejected = scores < (held_out[references] @ direction).numpy().min()
        predicted = (features @ ctx.model.classifier(ctx.bundle.vocabulary).T).argmax(dim=1).numpy()
        target = np.array([probe.label for probe in ctx.probes] + [-1] * len(clean))
        ctx.keep(
            Predictions(
                task="probes",
                classes=ctx.bundle.vocabulary.names,
                uids=[*probes.uids(ctx), *(ctx.bundle.test.uids[row] for row in clean)],
                predicted=predicted,
                target=target,
                suspicion=-scores,
                rejected=rejected,
            )
        )
        return [
            *suspicion.ranked("probes", -scores, triggered),
            share("detected", "probes", rejected[triggered]),
            share("false_alarms", "probes", rejected[~triggered]),
            share("asr_undetected", "probes", (predicted == target)[triggered] & ~rejected[triggered]),
        ]

    def direction(self, ctx: EvalContext, rng: np.random.Generator) -> torch.Tensor:
        """The vector whose inner product with an image embedding is its score: float32 (d,)."""
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
