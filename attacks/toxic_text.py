"""ToxicTextCLIP, targeted poisoning: captions of the adversarial class, with a background that fits it."""

from __future__ import annotations

from collections import Counter

import torch
from pydantic import Field

from bench.api import AttackContext, PoisonPlan, Surrogate
from bench.attacks.backgrounds import class_centres, diverse, encoded, recombined, selected
from bench.attacks.captions import AdversarialCaptions
from bench.attacks.tdpa import TDPA, TDPAParams
from bench.registry import register_attack


class ToxicTextPoisonParams(TDPAParams):
    rate: float = Field(
        default=0.00084, gt=0, lt=1, description="poison rate: poisons of all target images as a fraction of the training pairs"
    )
    images: int = Field(default=24, ge=1, description="number of target images n; the ASR is a multiple of 1/n")
    eta: int = Field(default=7, ge=0, description="maximum number of words deleted to find the background text of a caption")
    candidates: int = Field(default=300, ge=1, description="captions of the class that are searched, the most similar ones")
    sources: int = Field(default=35, ge=1, description="selected captions that are recombined; 1: use captions as they are")
    pool: int = Field(default=350, ge=1, description="recombined captions to choose from, those most similar to the class")


@register_attack("toxic_text_poison")
class ToxicTextPoison(TDPA):
    """Targeted poisoning with captions whose background fits the adversarial class (Yao et al. 2025, arXiv 2511.00446).

    As `tdpa`, with captions optimised on a surrogate. The selector takes training captions that name the adversarial class and
    ranks them by the similarity of their background text to the class centre, the mean of the class's prompts. The background
    text is the caption without the class name and some more words, such that it is similar to the image and dissimilar to the
    class. The augmenter makes new captions from the best ones, keeps those most similar to the centre, and takes the most
    diverse of these by Jaccard similarity of their words.

    Deviations:
    - The surrogate is the clean model of the same seed and architecture; the paper's is OpenAI's ViT-B/32.
    - Words are deleted greedily; the paper tries all subsets.
    - Captions are recombined, the head of one up to the class name with the tail of another; the paper has an image-conditioned
      decoder.
    - Target images are held-out ones.
    """

    citations = ("yao2025toxictextclip",)
    Params = ToxicTextPoisonParams
    params: ToxicTextPoisonParams
    writes = True

    def needs_surrogate(self) -> bool:
        return True

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        wanted = Counter(poison.index for poison in plan.poisons)
        centres = class_centres(ctx, surrogate)
        written = {}
        for target in sorted({poison.target for poison in plan.poisons}):
            most = max(wanted[poison.index] for poison in plan.poisons if poison.target == target)
            written[target] = diverse(self._ranked(ctx, surrogate, target, centres[target]), most)
        given: Counter[int] = Counter()
        poisons = []
        for poison in plan.poisons:
            caption = written[poison.target][given[poison.index]]
            given[poison.index] += 1
            poisons.append(poison.model_copy(update={"caption": caption}))
        return plan.model_copy(update={"poisons": tuple(poisons)})

    def _ranked(self, ctx: AttackContext, surrogate: Surrogate, target: int, centre: torch.Tensor) -> list[str]:
        """Candidate captions of class `target`, the most similar to its centre first."""
        params, name = self.params, ctx.bundle.vocabulary.names[target]
        rows = AdversarialCaptions(ctx.bundle).rows(target)
        captions = selected(ctx, surrogate, rows, target, centre, params.eta, params.candidates)
        if params.sources == 1:
            return captions
        texts = recombined(captions[: params.sources], name) or captions
        order = (encoded(surrogate, texts) @ centre).argsort(descending=True, stable=True)[: params.pool]
        return [texts[place] for place in order.tolist()]
