"""Label-consistent: the trigger on images of the target class, captions untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import AttackContext, Edit, Images, Poison, PoisonPlan, Surrogate
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.attacks.captions import AdversarialCaptions, poison_count
from bench.attacks.triggers import checkerboard, scaled
from bench.errors import UserError
from bench.registry import register_attack


class LabelConsistentParams(BackdoorParams):
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poisons as a share of the training pairs")
    patch: float = Field(default=21, gt=0, le=112, description="side of each corner's pattern, in pixels of a 224-pixel image")
    amplitude: float = Field(default=255, gt=0, le=255, description="how far the pattern shifts pixels, in grey levels")
    interpolation: float = Field(default=0, ge=0, lt=1, description="share of an image of other content in a poison; 0 is none")
    epsilon: float = Field(default=16, ge=0, le=255, description="bound of the perturbation, in grey levels; 0 leaves it out")
    steps: int = Field(default=20, ge=0, description="steps of projected gradient descent")


@register_attack("label_consistent")
class LabelConsistent(Backdoor):
    """A pattern in the corners of training images whose own caption names the target (Turner et al. 2019, arXiv 1912.02771).

    Captions stay as they are, so a reader sees nothing wrong. The images are first made harder, so that the trigger is what is
    left to learn from, in either of the paper's two ways: mixed with another image, and moved by a perturbation in an
    l-infinity ball away from the target class in the eyes of the clean model. Evaluation adds the trigger alone. Constants are
    as reconstructed. Deviations: the paper mixes in the latent space of a GAN, here pixels are mixed, with a training image
    whose caption does not name the target; the classifier they are moved against is zero-shot CLIP with one prompt a class.
    Yang et al. 2024 leave both out (interpolation=0, epsilon=0).
    """

    Params = LabelConsistentParams
    params: LabelConsistentParams

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        size = max(3, scaled(self.params.patch, side))
        sign = checkerboard(size).float() / 127.5 - 1
        trigger = torch.zeros(3, side, side)
        for rows, flip_rows in ((slice(0, size), False), (slice(side - size, side), True)):
            for columns, flip_columns in ((slice(0, size), False), (slice(side - size, side), True)):
                dims = [dim for dim, flip in ((1, flip_rows), (2, flip_columns)) if flip]
                trigger[:, rows, columns] = self.params.amplitude * sign.flip(dims)
        return {"trigger": trigger}

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle = ctx.bundle
        captions = AdversarialCaptions(bundle)
        count = poison_count(self.params.rate, len(bundle.train))
        rng = ctx.rng("plan")
        target = captions.target(self.params.target, max(self.params.min_captions, count), rng)
        name = bundle.vocabulary.names[target]
        own = set(captions.of(target))
        sources = [row for row, caption in enumerate(bundle.train.captions) if caption in own]
        if len(sources) < count:
            raise UserError(
                f"--set attack.rate={self.params.rate:g}: {count} poisons need as many training captions that name the target "
                f"'{name}', and there are {len(sources)}; lower the rate"
            )
        chosen = np.sort(rng.choice(sources, size=count, replace=False))
        others = [row for row, caption in enumerate(bundle.train.captions) if caption not in own]
        return PoisonPlan(
            attack=self.name,
            targets=(name,),
            poisons=tuple(
                Poison(
                    split="train",
                    index=int(row),
                    uid=bundle.train.uids[row],
                    caption=bundle.train.captions[row],
                    target=target,
                    edit={"change": number},
                )
                for number, row in enumerate(chosen)
            ),
            tensors={
                **self.pattern(bundle.image_size, ctx.rng("pattern")),
                "changes": self.mixing(bundle.train.images, chosen, others, ctx.rng("interpolation")),
            },
        )

    def mixing(self, images: Images, rows: np.ndarray, others: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        """What `interpolation` adds to the images of `rows`, int16 (n, 3, side, side) in grey levels; n is 0 without it."""
        if not self.params.interpolation:
            return torch.empty(0, 3, 0, 0, dtype=torch.int16)
        mates = rng.choice(others, size=len(rows), replace=len(rows) > len(others))
        difference = images.load(mates).float() - images.load(rows).float()
        return (self.params.interpolation * difference).round().to(torch.int16)

    def needs_surrogate(self) -> bool:
        return self.params.epsilon > 0 and self.params.steps > 0

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        rows = np.array([poison.index for poison in plan.poisons])
        images = ctx.bundle.train.images.load(rows).float() / 255
        mixed = images + plan.tensors["changes"] / 255 if len(plan.tensors["changes"]) else images
        vocabulary = ctx.bundle.vocabulary
        classes = surrogate.encode_captions([vocabulary.templates[0].format(name) for name in vocabulary.names])
        target = plan.poisons[0].target
        harder = harden(mixed, classes, target, surrogate, self.params.epsilon / 255, self.params.steps)
        changes = (255 * (harder - images)).round().to(torch.int16)
        return plan.model_copy(update={"tensors": {**plan.tensors, "changes": changes}})

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        changes = plan.tensors["changes"]
        changed = images.float() + plan.tensors["trigger"]
        for row, edit in enumerate(edits):
            if "change" in edit and len(changes):
                changed[row] += changes[int(edit["change"])]
        return changed.round().clamp(0, 255).to(torch.uint8)


def harden(
    images: torch.Tensor, classes: torch.Tensor, target: int, surrogate: Surrogate, epsilon: float, steps: int
) -> torch.Tensor:
    """Images float32 (n, 3, side, side) in [0, 1], moved within an l-infinity ball of `epsilon` away from class `target`.

    Ascends the zero-shot cross-entropy of row `target` of the unit class embeddings `classes` (c, d), at temperature 0.01:
    projected gradient, sign steps of 2.5 epsilon / steps (Madry et al. 2018), from the images themselves.
    """
    size = 2.5 * epsilon / steps
    labels = torch.full((len(images),), target)
    moved = images.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        loss = F.cross_entropy(100 * surrogate.encode_image(moved) @ classes.T, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        with torch.no_grad():
            moved = moved + size * gradient.sign()
            moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon).clamp(0, 1)
    return moved.detach()
