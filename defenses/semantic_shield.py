"""Semantic Shield: CLIP whose image patches are aligned with what captions say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import Batch, Encoder, Limit, Params, Phase, Scorer, TrainSetup
from bench.defenses.clip import CLIP
from bench.defenses.losses import pair_losses
from bench.errors import UserError
from bench.registry import register_defense


class SemanticShieldParams(Params):
    alignment: float = Field(default=1.0, ge=0, description="weight of the loss of patches and elements")
    attention: float = Field(default=1.0, ge=0, description="weight of the same loss with patches weighted by attention")
    as_released: bool = Field(default=False, description="softmax of the targets of both, as in the released code")


@register_defense("semantic_shield")
class SemanticShield(CLIP):
    """Aligns image patches with knowledge elements, what a caption says is shown (Ishmam & Thomas 2024, CVPR).

    With the cosine similarity of each patch of an image to each element, a word of the data set's vocabulary,
    1. `alignment` weighs the binary cross entropy of the largest similarity over patches, where elements that the caption
       mentions are positive;
    2. `attention` weighs the same of the mean over patches, weighted by attention;
    3. the CLIP loss of a pair is divided by the mean over its caption's elements of the largest similarity.
    So no patch is learned from that looks like nothing the caption says. As reconstructed from the released code, of which the
    image model is not public.

    Deviations:
    - Elements are words of captions, on `scenes` those for object, colour, texture and background and elsewhere names of
      classes; in the paper a language model gives visual properties of each class.
    - Negatives are the elements of other captions in the batch.
    - Attention is the softmax over patches of their similarity to the whole image, over CLIP's temperature.
    - Logits of cross entropies are similarities over CLIP's temperature, which they do not train. In the third loss
      similarities are (1 + cosine) / 2, so that it stays finite; a caption without elements has the weight 1.
    - Weights are choices of this project; in the released code both are 0 unless given.
    """

    citations = ("ishmam2024semanticshield",)
    version = "1"
    Params = SemanticShieldParams
    params: SemanticShieldParams

    def __init__(self, params: SemanticShieldParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        elements = setup.elements()
        if not len(elements.tokens):
            raise UserError("semantic_shield: no caption mentions the name of a class; choose another data set or defense")
        self._tokens, self._mentioned = elements.tokens, elements.mentioned
        self._sums = torch.zeros(3, 2, device=setup.device)

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        mention = "share of pairs whose caption mentions an element"
        gap = "similarity of patches to their caption's elements, above that to other elements"
        return (
            Limit("with_elements", "first", mention, "take a data set whose captions name its classes", low=0.5),
            Limit("element_gap", "last", gap, "raise alignment or train longer", low=0.1, unit=""),
        )

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        self._sums.zero_()

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        says, used = self._elements(batch.indices)
        (images, places), texts = encoder.image_parts(batch.images[0]), encoder.encode_text(batch.texts[0])
        similarities = places @ encoder.encode_prompts(self._tokens[used]).T
        best, scale = similarities.amax(dim=1), encoder.logit_scale
        attended = (attention(images, places, scale.detach())[..., None] * similarities).sum(dim=1)
        self._note(says, best.detach())
        targets = says.float().softmax(dim=1) if self.params.as_released else says.float()
        weighted = pair_losses(images, texts, scale) * penalties(best, says)
        return weighted.mean() + sum(
            weight * F.binary_cross_entropy_with_logits(scale.detach() * each, targets)
            for weight, each in ((self.params.alignment, best), (self.params.attention, attended))
        )

    def _elements(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which elements each caption mentions, bool (n, m), of those that any in the batch does: int64 (m,)."""
        mentioned = self._mentioned[pairs]
        says = torch.zeros(len(pairs), len(self._tokens) + 1, dtype=torch.bool, device=pairs.device)
        says = says.scatter(1, mentioned.where(mentioned >= 0, len(self._tokens)), True)[:, :-1]
        used = says.any(dim=0).nonzero()[:, 0]
        return says[:, used], used

    def _note(self, says: torch.Tensor, best: torch.Tensor) -> None:
        """Add the batch to the sums and counts of the epoch: over mentions, over other elements, and over pairs."""
        for row, values, where in zip(
            self._sums, (best, best, says.any(dim=1).float()), (says, ~says, torch.ones_like(says[:, 0])), strict=True
        ):
            row += torch.stack([values[where].sum(), where.sum()])

    def telemetry(self) -> dict[str, float]:
        mentioned, others, pairs = (self._sums[:, 0] / self._sums[:, 1].clamp(min=1)).tolist()
        return {"element_similarity": mentioned, "element_gap": mentioned - others, "with_elements": pairs}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums = state["sums"].clone().to(self.setup.device)


def attention(images: torch.Tensor, places: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """How much of each image (n, d) each of its places (n, p, d) is: softmax of their scaled similarities, (n, p)."""
    return (scale * (places * images[:, None]).sum(dim=2)).softmax(dim=1)


def penalties(best: torch.Tensor, says: torch.Tensor) -> torch.Tensor:
    """The weight of each pair, (n,): 1 over the mean of (1 + best) / 2 over its elements, 1 if it has none.

    best (n, m): the largest similarity of a patch to an element; says bool (n, m): which of them are the pair's.
    """
    count = says.sum(dim=1)
    mean = ((1 + best) / 2 * says).sum(dim=1) / count.clamp(min=1)
    return torch.where(count > 0, 1 / mean.clamp(min=1e-3), 1.0)
