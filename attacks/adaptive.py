"""Adaptive attacks on defenses that use unimodal learning (Yang et al. 2024)."""

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

    Images and captions match, so image-caption similarity does not reveal the poison. The attack targets unimodal learning,
    which may cluster images with the trigger around the target class. Success is measured by zero-shot classification (`asr`)
    and by linear probe (`asr_linear_probe`).

    Deviations:
    - The paper does not name the trigger; this is BadNet's patch.
    - If the target class has fewer held-out images than there are poisons, images are used more than once.
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
            raise UserError(f"no held-out image shows the target '{name}'; choose another with --set attack.target")
        chosen = rng.choice(sources, size=count, replace=count > len(sources))
        poisons = holdout_poisons(
            bundle, chosen, target, draw(captions.of(target), count, rng), lambda: self.edit(bundle.image_size, rng)
        )
        tensors = self.pattern(bundle.image_size, ctx.rng("pattern"))
        return PoisonPlan(attack=self.name, targets=(bundle.vocabulary.names[target],), poisons=poisons, tensors=tensors)


class InterpolationParams(TDPAParams):
    nearest: float = Field(default=0.1, ge=0, le=1, description="smallest weight of the victim image in an interpolation")


@register_attack("interpolation")
class Interpolation(TDPA):
    """Targeted poisoning with interpolations from an image of the adversarial class to the victim image (Carlini 2021).

    All poisons of a victim are captioned as the adversarial class. They form a path from an image of that class, which fits the
    caption, to the victim itself (arXiv 2105.01622, as used by Yang et al. 2024).

    Deviations:
    - As reconstructed: pixels are interpolated linearly, at equal steps of the weight from `nearest` to 1.
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
                raise UserError(f"no held-out image shows the class '{name}'; raise --set attack.interpolation.min_captions")
            starts.append(int(rng.choice(own)))
        poisons = tuple(
            poison.model_copy(update={"edit": {"start": row, "share": share} if share < 1 else None})
            for row, (poison, share) in enumerate(zip(planned.poisons, shares, strict=True))
        )
        tensors = {"starts": bundle.holdout.images.load(np.array(starts, dtype=np.int64)).clone()}
        return planned.model_copy(update={"poisons": poisons, "tensors": tensors})

    def _shares(self, plan: PoisonPlan) -> list[float]:
        """The weight of the victim in each poison, from `nearest` to 1 over the poisons of one victim."""
        victims = [poison.index for poison in plan.poisons]
        steps = {
            victim: iter(np.linspace(1, self.params.nearest, victims.count(victim))[::-1].tolist()) for victim in set(victims)
        }
        return [round(next(steps[victim]), 6) for victim in victims]

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        starts = plan.tensors["starts"][[int(edit["start"]) for edit in edits]].float()
        shares = torch.tensor([float(edit["share"]) for edit in edits])[:, None, None, None]
        return (shares * images.float() + (1 - shares) * starts).round().clamp(0, 255).to(torch.uint8)
