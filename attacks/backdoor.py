"""Base of backdoor attacks: a trigger on held-out images, captioned as one target class."""

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
    target: str = Field(default="", description="target class; empty draws a random one")
    min_captions: int = Field(default=16, ge=1, description="smallest number of captions that mention a randomly drawn target")
    max_probes: int = Field(default=2000, ge=1, description="largest number of test images with the trigger")


def holdout_poisons(
    bundle: DatasetBundle, chosen: Iterable[int], target: int, captions: Sequence[str], edit: Callable[[], Edit]
) -> tuple[Poison, ...]:
    """Poisons that add held-out images to the training set.

    Parameters
    ----------
    bundle : DatasetBundle
        The data.
    chosen : iterable of int
        Indices of held-out images.
    target : int
        Index of the target class in the vocabulary.
    captions : sequence of str
        One for each image.
    edit : callable
        Returns the edit of one image; called once for each, in order.
    """
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
    """Base of backdoor attacks: random held-out images with a trigger, each with a random caption of the target class.

    The poisons are added to the training set. Subclasses define the trigger by `pattern`, `edit` and `apply`.
    """

    Params = BackdoorParams
    params: BackdoorParams

    @abstractmethod
    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Draw the fixed arrays of the trigger, once for an attack and seed; they become `PoisonPlan.tensors`.

        Parameters
        ----------
        side : int
            Side of the images in pixels.
        rng : numpy.random.Generator
            Source of all draws.
        """

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        """Draw what varies between images, such as the position of a patch; `apply` gets it. Arguments as in `pattern`."""
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
                f"--set attack.rate={self.params.rate:g}: {count} poisons need that many held-out images that do not show "
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
        """Test images that do not show the target class, with the trigger; at most `max_probes`, drawn at random."""
        rng = ctx.rng("probes")
        target = plan.poisons[0].target
        others = [index for index, members in enumerate(ctx.bundle.test.members) if target not in members]
        if len(others) > self.params.max_probes:
            others = sorted(rng.choice(others, size=self.params.max_probes, replace=False).tolist())
        side = ctx.bundle.image_size
        return [Probe(split="test", index=index, label=target, edit=self.edit(side, rng)) for index in others]
