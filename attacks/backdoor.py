"""Base class of backdoor attacks: a trigger on held-out images, paired with captions of one target class."""

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
    target: str = Field(default="", description="target class; empty: a random one")
    min_captions: int = Field(default=16, ge=1, description="training captions that must mention a randomly drawn target class")
    max_probes: int = Field(default=2000, ge=1, description="maximum number of triggered test images")


def holdout_poisons(
    bundle: DatasetBundle, chosen: Iterable[int], target: int, captions: Sequence[str], edit: Callable[[], Edit]
) -> tuple[Poison, ...]:
    """Poisons that add held-out images to the training set, one per image.

    Parameters
    ----------
    bundle : DatasetBundle
        The data set.
    chosen : iterable of int
        Indices of held-out images.
    target : int
        Index of the target class in the vocabulary.
    captions : sequence of str
        One per image.
    edit : callable
        Returns the edit of one image. Called once per image, in order.
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
    """Base class of backdoor attacks: random held-out images with a trigger, each with a random caption of the target class.

    The images do not show the target class, and the poisons are added to the training set. Subclasses define the trigger by
    `pattern`, `edit` and `apply`.
    """

    Params = BackdoorParams
    params: BackdoorParams

    @abstractmethod
    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Draw what all triggered images share, once per attack and seed. It becomes `PoisonPlan.tensors`.

        Parameters
        ----------
        side : int
            Image side in pixels.
        rng : numpy.random.Generator
            Source of all random draws.

        Returns
        -------
        dict of str to tensor
        """

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        """Draw what differs between images, such as the position of a patch, for `apply`. Parameters as in `pattern`."""
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
                f"the target class, and there are {len(sources)}; lower the rate"
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
        """Triggered test images that do not show the target class; a random `max_probes` of them if there are more."""
        rng = ctx.rng("probes")
        target = plan.poisons[0].target
        others = [index for index, members in enumerate(ctx.bundle.test.members) if target not in members]
        if len(others) > self.params.max_probes:
            others = sorted(rng.choice(others, size=self.params.max_probes, replace=False).tolist())
        side = ctx.bundle.image_size
        return [Probe(split="test", index=index, label=target, edit=self.edit(side, rng)) for index in others]
