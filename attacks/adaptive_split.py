"""Adaptive attack on SafeCLIP's split: poisons as similar to their captions, to a surrogate, as clean pairs are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import AttackContext, Edit, PoisonPlan, Surrogate
from bench.attacks.backgrounds import encoded
from bench.attacks.badnet import BadNet, BadNetParams
from bench.attacks.captions import AdversarialCaptions
from bench.registry import register_attack


class AdaptiveSplitParams(BadNetParams):
    captions: int = Field(
        default=64, ge=1, description="random captions of the target class from which each poison takes the most similar"
    )
    epsilon: float = Field(default=16, ge=0, le=255, description="l-infinity bound of the perturbation, in grey levels")
    steps: int = Field(default=20, ge=0, description="PGD steps")


@register_attack("adaptive_split")
class AdaptiveSplit(BadNet):
    """BadNet with captions and pixels optimised to pass a split by similarity (white-box against Yang et al. 2024).

    SafeCLIP trusts pairs whose image and caption are similar to a model after its warm-up. The adversary knows this rule and
    has a surrogate. Each poison takes the most similar of `captions` random training captions that name the target class, and
    its image, with the patch in place, moves towards that caption within an l-infinity ball of `epsilon` grey levels, as
    adaptive attacks on known defenses do (Athalye et al. 2018). With 0 steps and one caption this is BadNet. The patch is not
    perturbed; test images get the patch alone.

    Deviations:
    - The attack is this project's own.
    - The surrogate is the fully trained clean model of the same seed, whereas the split is made by a model a few epochs old.
    """

    citations = ("yang2024safeclip", "athalye2018obfuscated")
    Params = AdaptiveSplitParams
    params: AdaptiveSplitParams

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        planned = super().plan(ctx)
        numbered = (
            poison.model_copy(update={"edit": {**(poison.edit or {}), "change": number}})
            for number, poison in enumerate(planned.poisons)
        )
        changes = torch.zeros(len(planned.poisons), 3, ctx.bundle.image_size, ctx.bundle.image_size, dtype=torch.int16)
        return planned.model_copy(update={"poisons": tuple(numbered), "tensors": {**planned.tensors, "changes": changes}})

    def needs_surrogate(self) -> bool:
        return self.params.captions > 1 or (self.params.epsilon > 0 and self.params.steps > 0)

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        images = ctx.bundle.holdout.images.load(np.array([poison.index for poison in plan.poisons]))
        edits = [poison.edit or {} for poison in plan.poisons]
        patched = super().apply(images, edits, plan)
        fixed = (super().apply(torch.zeros_like(images), edits, plan) == super().apply(images * 0 + 255, edits, plan)).float()
        captions, texts = self._nearest(ctx, plan, surrogate.encode_image(patched.float() / 255).detach(), surrogate)
        moved = towards(patched.float() / 255, texts, 1 - fixed, surrogate, self.params.epsilon / 255, self.params.steps)
        changes = (255 * moved).round().to(torch.int16) - patched.to(torch.int16)
        poisons = (p.model_copy(update={"caption": text}) for p, text in zip(plan.poisons, captions, strict=True))
        return plan.model_copy(update={"poisons": tuple(poisons), "tensors": {**plan.tensors, "changes": changes}})

    def _nearest(
        self, ctx: AttackContext, plan: PoisonPlan, images: torch.Tensor, surrogate: Surrogate
    ) -> tuple[list[str], torch.Tensor]:
        """The most similar of the random captions that each image is offered, and their embeddings.

        Parameters
        ----------
        images : float32 (n, d)
            Image embeddings of unit length.

        Returns
        -------
        captions : list of n str
        texts : float32 (n, d)
            Their embeddings, of unit length.
        """
        known = list(dict.fromkeys(AdversarialCaptions(ctx.bundle).of(plan.poisons[0].target)))
        offered = ctx.rng("captions").integers(len(known), size=(len(images), self.params.captions))
        texts = encoded(surrogate, known)
        similarity = torch.einsum("nd,nkd->nk", images, texts[torch.from_numpy(offered)])
        best = offered[np.arange(len(images)), similarity.argmax(dim=1).numpy()]
        return [known[row] for row in best], texts[torch.from_numpy(best)]

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        patched = super().apply(images, edits, plan).to(torch.int16)
        for row, edit in enumerate(edits):
            if "change" in edit:
                patched[row] += plan.tensors["changes"][int(edit["change"])]
        return patched.clamp(0, 255).to(torch.uint8)


def towards(
    images: torch.Tensor, texts: torch.Tensor, free: torch.Tensor, surrogate: Surrogate, epsilon: float, steps: int
) -> torch.Tensor:
    """Perturb images towards their captions by PGD (Madry et al. 2018) without a random start.

    Signed gradient steps of size 2.5 epsilon / steps maximise the cosine similarity of each image and its caption.

    Parameters
    ----------
    images : float32 (n, 3, side, side)
        Values in [0, 1].
    texts : float32 (n, d)
        Caption embeddings of unit length.
    free : float32, broadcastable to (n, 3, side, side)
        1 where a pixel may change, else 0.
    surrogate : Surrogate
        The model that the perturbation is computed on.
    epsilon : float
        Radius of the l-infinity ball, for images in [0, 1].
    steps : int
        Number of steps; 0 changes nothing.

    Returns
    -------
    float32 (n, 3, side, side)
        Values in [0, 1].
    """
    moved = images.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad((surrogate.encode_image(moved) * texts).sum(), moved)
        with torch.no_grad():
            moved = moved + 2.5 * epsilon / steps * gradient.sign() * free
            moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon).clamp(0, 1)
    return moved.detach()
