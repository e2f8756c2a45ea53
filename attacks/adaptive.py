"""Adaptive attacks against defenses that rely on unimodal learning (Yang et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import AttackContext, Edit, PoisonPlan
from bench.attacks.backdoor import holdout_poisons
from bench.attacks.badnet import BadNet
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.attacks.tdpa import TDPA, TDPAParams
from bench.errors import UserError
from bench.registry import register_attack


@register_attack("adaptive_unimodal")
class AdaptiveUnimodal(BadNet):
    """Adaptive backdoor: a patch on held-out images of the target class, with captions of that class (Yang et al. 2024).

    Images match their captions, so image-caption similarity does not give the poisons away. The attack aims at unimodal
    learning, which may cluster triggered images with the target class. The ASR is measured by zero-shot classification (`asr`)
    and by a linear probe (`asr_linear_probe`).

    Deviations:
    - The paper does not name its trigger; this is BadNet's patch.
    - Held-out images are reused where the target class has fewer of them than there are poisons.
    """

    citations = ("yang2024safeclip",)
    mismatched = False

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle, rng = ctx.bundle, ctx.rng("plan")
        captions = AdversarialCaptions(bundle)
        target = captions.target(self.params.target, self.params.min_captions, rng)
        count = poison_count(self.params.rate, len(bundle.train))
        sources = [index for index, members in enumerate(bundle.holdout.members) if target in members]
        if not sources:
            name = bundle.vocabulary.names[target]
            raise UserError(f"no held-out image shows the target class '{name}'; choose another with --set attack.target")
        chosen = rng.choice(sources, size=count, replace=count > len(sources))
        poisons = holdout_poisons(
            bundle, chosen, target, draw(captions.of(target), count, rng), lambda: self.edit(bundle.image_size, rng)
        )
        tensors = self.pattern(bundle.image_size, ctx.rng("pattern"))
        return PoisonPlan(attack=self.name, targets=(bundle.vocabulary.names[target],), poisons=poisons, tensors=tensors)


class InterpolationParams(TDPAParams):
    nearest: float = Field(default=0.1, ge=0, le=1, description="smallest weight of the target image in an interpolation")


@register_attack("interpolation")
class Interpolation(TDPA):
    """Targeted poisoning along a path from an image of the adversarial class to the target image (Carlini 2021).

    The poisons of a target image all have captions of its adversarial class. They interpolate between an image of that class,
    which matches the caption, and the target image itself (arXiv 2105.01622, as used by Yang et al. 2024).

    Deviations:
    - As reconstructed: pixels are interpolated linearly, with equally spaced weights of the target image from `nearest` to 1.
    """

    citations = ("carlini2021semisupervised", "yang2024safeclip")
    Params = InterpolationParams
    params: InterpolationParams

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        planned, rng, bundle = super().plan(ctx), ctx.rng("interpolation"), ctx.bundle
        shares = self._shares(planned)
        starts = []
        for poison in planned.poisons:
            own = [index for index, members in enumerate(bundle.holdout.members) if poison.target in members]
            if not own:
                name = bundle.vocabulary.names[poison.target]
                raise UserError(
                    f"no held-out image shows the adversarial class '{name}'; raise --set attack.interpolation.min_captions"
                )
            starts.append(int(rng.choice(own)))
        poisons = tuple(
            poison.model_copy(update={"edit": {"start": row, "share": share} if share < 1 else None})
            for row, (poison, share) in enumerate(zip(planned.poisons, shares, strict=True))
        )
        tensors = {"starts": bundle.holdout.images.load(np.array(starts, dtype=np.int64)).clone()}
        return planned.model_copy(update={"poisons": poisons, "tensors": tensors})

    def _shares(self, plan: PoisonPlan) -> list[float]:
        """Weight of the target image in each poison: from `nearest` to 1 over the poisons of one target image."""
        images = [poison.index for poison in plan.poisons]
        weights = {
            image: iter(np.linspace(1, self.params.nearest, images.count(image))[::-1].tolist()) for image in set(images)
        }
        return [round(next(weights[image]), 6) for image in images]

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        starts = plan.tensors["starts"][[int(edit["start"]) for edit in edits]].float()
        shares = torch.tensor([float(edit["share"]) for edit in edits])[:, None, None, None]
        return (shares * images.float() + (1 - shares) * starts).round().clamp(0, 255).to(torch.uint8)
