"""What backdoor attacks share: one target class, held-out images with a trigger, captions of the target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from pydantic import Field

from bench.api import Attack, AttackContext, AttackParams, DatasetBundle, Edit, Poison, PoisonPlan, Probe
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.errors import UserError


class BackdoorParams(AttackParams):
    target: str = Field(default="", description="target class; empty draws one by seed")
    min_captions: int = Field(default=16, ge=1, description="a drawn target is mentioned by at least so many captions")
    max_probes: int = Field(default=2000, ge=1, description="at most so many triggered test images")


def holdout_poisons(
    bundle: DatasetBundle, chosen: Iterable[int], target: int, captions: Sequence[str], edit: Callable[[], Edit]
) -> tuple[Poison, ...]:
    """The held-out images `chosen`, each with its caption and an edit of its own, as pairs to be added."""
    return tuple(
        Poison(
            split="holdout",
            index=int(index),
            uid=bundle.holdout.uids[index],
            caption=caption,
            target=target,
            edit=edit(),
        )
        for index, caption in zip(chosen, captions, strict=True)
    )


class Backdoor(Attack):
    """A trigger on random held-out images, each with a random caption of the target class; pairs are added."""

    Params = BackdoorParams
    params: BackdoorParams

    @abstractmethod
    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """The trigger's fixed arrays for images of `side` pixels, one draw an attack and seed."""

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        """How the trigger is put on one image; drawn anew for each."""
        return {}

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle = ctx.bundle
        captions = AdversarialCaptions(bundle)
        count = poison_count(self.params.rate, len(bundle.train))
        rng = ctx.rng("plan")
        target = captions.target(self.params.target, self.params.min_captions, rng)
        sources = [index for index, members in enumerate(bundle.holdout.members) if target not in members]
        if len(sources) < count:
            raise UserError(
                f"--set attack.rate={self.params.rate:g}: {count} poisons need as many held-out images that do not show "
                f"the target, and there are {len(sources)}; lower the rate"
            )
        chosen = rng.choice(sources, size=count, replace=False)
        return PoisonPlan(
            attack=self.name,
            targets=(bundle.vocabulary.names[target],),
            poisons=holdout_poisons(
                bundle, chosen, target, draw(captions.of(target), count, rng), lambda: self.edit(bundle.image_size, rng)
            ),
            tensors=self.pattern(bundle.image_size, ctx.rng("pattern")),
        )

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        """Test images that do not show the target class, with the trigger; at most `max_probes`, drawn by seed."""
        rng = ctx.rng("probes")
        target = plan.poisons[0].target
        others = [index for index, members in enumerate(ctx.bundle.test.members) if target not in members]
        if len(others) > self.params.max_probes:
            others = sorted(rng.choice(others, size=self.params.max_probes, replace=False).tolist())
        side = ctx.bundle.image_size
        return [Probe(split="test", index=index, label=target, edit=self.edit(side, rng)) for index in others]
