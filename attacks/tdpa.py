"""Targeted data poisoning: unmodified target images with captions of another class."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bench.api import Attack, AttackContext, AttackParams, Poison, PoisonPlan, Probe
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.errors import UserError
from bench.registry import register_attack


class TDPAParams(AttackParams):
    rate: float = Field(
        default=0.0005, gt=0, lt=1, description="poison rate: poisons of all target images as a fraction of the training pairs"
    )
    images: int = Field(default=16, ge=1, description="number of target images n; the ASR is a multiple of 1/n")
    min_captions: int = Field(default=16, ge=1, description="training captions that must mention an adversarial class")


@register_attack("tdpa")
class TDPA(Attack):
    """Targeted data poisoning (TDPA): target images with captions of a wrong class (Carlini & Terzis 2021).

    Random held-out images, the target images, are added to the training set unmodified. Each has its own adversarial class,
    drawn from the classes that it does not show, and each of its copies a random training caption that mentions this class.
    There is no trigger: the probes are the target images themselves. With fewer poisons than target images, there are only as
    many target images as poisons.

    Deviations:
    - None known.
    """

    citations: ClassVar[tuple[str, ...]] = ("carlini2021contrastive",)
    Params = TDPAParams
    params: TDPAParams

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle, params = ctx.bundle, self.params
        captions = AdversarialCaptions(bundle)
        count = poison_count(params.rate, len(bundle.train))
        images = min(params.images, count)
        eligible = captions.eligible(params.min_captions)
        rng = ctx.rng("plan")
        poisons, targets = [], []
        shown = [set(members) for members in bundle.holdout.members]
        usable = [index for index in range(len(shown)) if set(eligible) - shown[index]]
        if len(usable) < images:
            raise UserError(
                f"{images} target images are needed, and only {len(usable)} held-out images have an adversarial class that "
                "they do not show; lower --set attack.tdpa.min_captions or --set attack.tdpa.images"
            )
        for number, index in enumerate(rng.choice(usable, size=images, replace=False)):
            target = int(rng.choice(sorted(set(eligible) - shown[index])))
            copies = count // images + (number < count % images)
            targets.append(bundle.vocabulary.names[target])
            poisons += [
                Poison(split="holdout", index=int(index), uid=bundle.holdout.uids[index], caption=caption, target=target)
                for caption in draw(captions.of(target), copies, rng)
            ]
        return PoisonPlan(attack=self.name, targets=tuple(targets), poisons=tuple(poisons))

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        """The target images, unmodified, each with its adversarial class as the label."""
        labels = {poison.index: poison.target for poison in plan.poisons}
        return [Probe(split="holdout", index=index, label=label) for index, label in labels.items()]
