"""Targeted data poisoning: chosen images, untouched, with captions of another class."""

from __future__ import annotations

from pydantic import Field

from bench.api import Attack, AttackContext, AttackParams, Poison, PoisonPlan, Probe
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.errors import UserError
from bench.registry import register_attack


class TDPAParams(AttackParams):
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poisons of all target images as a share of the training pairs")
    images: int = Field(default=16, ge=1, description="target images; the ASR moves in steps of one over it")
    min_captions: int = Field(default=16, ge=1, description="an adversarial class is mentioned by at least so many captions")


@register_attack("tdpa")
class TDPA(Attack):
    """Targeted data poisoning: held-out images injected with captions of a wrong class (Carlini & Terzis 2021).

    Each target image has its own random adversarial class, one that it does not show, and is injected unmodified, each time
    with a random training caption that mentions that class. Where the rate gives fewer poisons than target images, there are
    as many target images as poisons.
    """

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
                f"only {len(usable)} of {images} held-out target images have an adversarial class that they do not show; "
                "lower --set attack.tdpa.min_captions or --set attack.tdpa.images"
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
        """The target images, unmodified, each with its adversarial class."""
        labels = {poison.index: poison.target for poison in plan.poisons}
        return [Probe(split="holdout", index=index, label=label) for index, label in labels.items()]
