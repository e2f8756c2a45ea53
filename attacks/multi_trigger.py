"""Multi-trigger backdoors, hybrid and parallel (Li et al. 2024, arXiv 2401.15295)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from pydantic import Field

from bench.api import AttackContext, Edit, Poison, PoisonPlan, Probe
from bench.attacks.backdoor import Backdoor, BackdoorParams, holdout_poisons
from bench.attacks.badnet import BadNet, BadNetParams
from bench.attacks.blended import Blended, BlendedParams
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.attacks.wanet import WaNet, WaNetParams
from bench.errors import UserError
from bench.registry import register_attack

V = TypeVar("V")


class MultiTriggerParams(BackdoorParams):
    rate: float = Field(default=0.0005, gt=0, lt=1, description="poison rate of all triggers together")
    patch: float = Field(default=BadNetParams().patch, gt=0, le=224, description="side of BadNet's patch, as in badnet")
    alpha: float = Field(default=BlendedParams().alpha, gt=0, le=1, description="weight of Blended's pattern, as in blended")
    strength: float = Field(default=WaNetParams().strength, gt=0, description="WaNet's warping strength, as in wanet")


class MultiTrigger(Backdoor):
    """Base class of backdoors that combine the triggers of BadNet, WaNet and Blended.

    Subclasses say which triggers go on one image together, a group, and which target class each group has.
    """

    Params = MultiTriggerParams
    params: MultiTriggerParams

    def __init__(self, params: MultiTriggerParams) -> None:
        super().__init__(params)
        # The warp is applied first and the patch last, so that no trigger hides another one.
        self.triggers: dict[str, Backdoor] = {
            "wanet": WaNet(WaNetParams(rate=params.rate, strength=params.strength)),
            "blended": Blended(BlendedParams(rate=params.rate, alpha=params.alpha)),
            "badnet": BadNet(BadNetParams(rate=params.rate, patch=params.patch)),
        }

    def groups(self) -> list[tuple[str, ...]]:
        """Names of the triggers of each group. The poisons are divided evenly among the groups."""
        return [(name,) for name in self.triggers]

    def targets(self, captions: AdversarialCaptions, rng: np.random.Generator) -> list[int]:
        """The target class of each group; here one for all."""
        target = captions.target(self.params.target, self.params.min_captions, rng)
        return [target] * len(self.groups())

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {
            f"{name}.{key}": tensor
            for name, trigger in self.triggers.items()
            for key, tensor in trigger.pattern(side, rng).items()
        }

    def edit_with(self, names: Sequence[str], side: int, rng: np.random.Generator) -> Edit:
        """Draw the edit that puts the named triggers on one image; see `Backdoor.edit`."""
        edit: Edit = {"triggers": ",".join(names)}
        for name in names:
            edit |= {f"{name}.{key}": value for key, value in self.triggers[name].edit(side, rng).items()}
        return edit

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle, rng = ctx.bundle, ctx.rng("plan")
        captions = AdversarialCaptions(bundle)
        count = poison_count(self.params.rate, len(bundle.train))
        targets = self.targets(captions, rng)
        sources = [index for index, members in enumerate(bundle.holdout.members) if not set(targets) & set(members)]
        if len(sources) < count:
            raise UserError(
                f"--set attack.rate={self.params.rate:g}: {count} poisons need as many held-out images that do not show a "
                f"target class, and there are {len(sources)}; lower the rate"
            )
        chosen = np.array_split(rng.choice(sources, size=count, replace=False), len(targets))
        poisons: list[Poison] = []
        for names, target, part in zip(self.groups(), targets, chosen, strict=True):
            edit = partial(self.edit_with, names, bundle.image_size, rng)
            poisons += holdout_poisons(bundle, part, target, draw(captions.of(target), len(part), rng), edit)
        return PoisonPlan(
            attack=self.name,
            targets=tuple(dict.fromkeys(bundle.vocabulary.names[target] for target in targets)),
            poisons=tuple(poisons),
            tensors=self.pattern(bundle.image_size, ctx.rng("pattern")),
        )

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        edited = images.clone()
        for name, trigger in self.triggers.items():
            rows = [row for row, edit in enumerate(edits) if name in str(edit["triggers"]).split(",")]
            if rows:
                own = plan.model_copy(update={"tensors": _of(name, plan.tensors)})
                edited[rows] = trigger.apply(edited[rows], [_of(name, edits[row]) for row in rows], own)
        return edited

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        """For each group, test images that do not show its target class, with its triggers; at most `max_probes` in all."""
        rng, side = ctx.rng("probes"), ctx.bundle.image_size
        labels = {str(poison.edit["triggers"]): poison.target for poison in plan.poisons if poison.edit}
        probes = []
        for names in self.groups():
            label = labels.get(",".join(names))
            if label is None:
                continue
            others = [index for index, members in enumerate(ctx.bundle.test.members) if label not in members]
            limit = max(1, self.params.max_probes // len(self.groups()))
            if len(others) > limit:
                others = sorted(rng.choice(others, size=limit, replace=False).tolist())
            group = "+".join(names)
            probes += [
                Probe(split="test", index=index, label=label, edit=self.edit_with(names, side, rng), group=group)
                for index in others
            ]
        return probes


def _of(name: str, values: Mapping[str, V]) -> dict[str, V]:
    """The entries of trigger `name`, with the prefix removed from their keys."""
    return {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}


@register_attack("htba")
class HTBA(MultiTrigger):
    """Hybrid-trigger backdoor (HTBA): every poison has all triggers, one target class (Li et al. 2024, arXiv 2401.15295).

    WaNet, Blended and BadNet are applied in this order. The poison rate is 0.05%, as in Yang et al. 2024.

    Deviations:
    - Those of the three triggers; see `wanet`, `blended` and `badnet`.
    - The order of the triggers is this project's choice.
    """

    citations = ("li2024multitrigger", "yang2024safeclip")

    def groups(self) -> list[tuple[str, ...]]:
        return [tuple(self.triggers)]


@register_attack("pba_all2one")
class PBAAllToOne(MultiTrigger):
    """Parallel backdoor, All2One: one trigger per poison, one target class for all (Li et al. 2024, arXiv 2401.15295).

    WaNet, Blended and BadNet each have a third of the poisons. The total poison rate is 0.05%, as in Yang et al. 2024.

    Deviations:
    - Those of the three triggers; see `wanet`, `blended` and `badnet`.
    """

    citations = ("li2024multitrigger", "yang2024safeclip")


class AllToAllParams(MultiTriggerParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate of all triggers together")


@register_attack("pba_all2all")
class PBAAllToAll(MultiTrigger):
    """Parallel backdoor, All2All: one trigger per poison, a target class per trigger (Li et al. 2024, arXiv 2401.15295).

    WaNet, Blended and BadNet have a poison rate of 0.05% each, as in Yang et al. 2024. `target` names the target class of
    WaNet; those of the other two are random.

    Deviations:
    - Those of the three triggers; see `wanet`, `blended` and `badnet`.
    """

    citations = ("li2024multitrigger", "yang2024safeclip")
    Params = AllToAllParams

    def targets(self, captions: AdversarialCaptions, rng: np.random.Generator) -> list[int]:
        first = captions.target(self.params.target, self.params.min_captions, rng)
        others = [target for target in captions.eligible(self.params.min_captions) if target != first]
        needed = len(self.groups()) - 1
        if len(others) < needed:
            raise UserError(
                f"pba_all2all needs {needed + 1} target classes, and only {len(others) + 1} are mentioned by enough training "
                "captions; lower --set attack.min_captions"
            )
        return [first, *[int(target) for target in rng.choice(others, size=needed, replace=False)]]
