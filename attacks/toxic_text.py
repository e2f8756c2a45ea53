"""ToxicTextCLIP, targeted poisoning: the wrong captions of an image are ones whose background fits their class."""

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
        default=0.00084, gt=0, lt=1, description="poisons of all target images as a share of the training pairs"
    )
    images: int = Field(default=24, ge=1, description="target images; the ASR moves in steps of one over it")
    eta: int = Field(default=7, ge=0, description="words deleted at most in search of a caption's background")
    candidates: int = Field(default=300, ge=1, description="captions of the class that the search looks at, the nearest first")
    sources: int = Field(default=35, ge=1, description="selected captions that are recombined; all are used as they are with 1")
    pool: int = Field(default=350, ge=1, description="recombined captions, the nearest to the class, that are chosen from")


@register_attack("toxic_text_poison")
class ToxicTextPoison(TDPA):
    """Targeted poisoning by captions whose background fits their class (Yao et al. 2025, arXiv 2511.00446).

    As `tdpa`, with captions chosen by a surrogate. Selector: of training captions that name the class, those whose background
    is most like the class's centre, the mean of its prompts. The background is the caption without the class and some more
    words, such that it is like the image and unlike the class. Augmenter: new captions from these, ranked by likeness to the
    centre, and of those the least alike by Jaccard similarity of their words. Deviations: the surrogate is the clean model of
    the same seed and architecture, where the paper takes OpenAI's ViT-B/32; words are deleted one after another, where the
    paper tries all subsets; in place of the paper's image-conditioned decoder, captions are recombined, the head of one up to
    the class name with the tail of another; images are held-out ones.
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
        """What may be written under an image for the class, the most like it first."""
        params, name = self.params, ctx.bundle.vocabulary.names[target]
        rows = AdversarialCaptions(ctx.bundle).rows(target)
        captions = selected(ctx, surrogate, rows, target, centre, params.eta, params.candidates)
        if params.sources == 1:
            return captions
        texts = recombined(captions[: params.sources], name) or captions
        order = (encoded(surrogate, texts) @ centre).argsort(descending=True, stable=True)[: params.pool]
        return [texts[place] for place in order.tolist()]
