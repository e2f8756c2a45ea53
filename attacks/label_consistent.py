"""Label-consistent: a trigger on images of the target class, with unchanged captions."""

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
    patch: float = Field(
        default=21, gt=0, le=112, description="side of the pattern in each corner, in pixels of a 224-pixel image"
    )
    amplitude: float = Field(default=255, gt=0, le=255, description="amplitude of the pattern, in grey levels")
    interpolation: float = Field(default=0, ge=0, lt=1, description="weight of an image of another class in a poison; 0: none")
    epsilon: float = Field(default=16, ge=0, le=255, description="bound of the perturbation, in grey levels; 0: none")
    steps: int = Field(default=20, ge=0, description="steps of projected gradient descent")


@register_attack("label_consistent")
class LabelConsistent(Backdoor):
    """Clean-label backdoor: a pattern in the corners of training images of the target class (Turner et al. 2019).

    The poisoned pairs are training pairs whose caption names the target class; captions stay unchanged, so they look correct.
    The images are first made harder to classify, so that the model relies on the trigger, in either of the paper's two ways
    (arXiv 1912.02771): interpolation with another image, and an adversarial perturbation within an l-infinity ball, away from
    the target class, computed on the clean model. Test images get the trigger only. Yang et al. 2024 use neither
    (`interpolation=0 epsilon=0`).

    Deviations:
    - The paper interpolates in the latent space of a GAN; here pixels are interpolated, with a training image whose caption
      does not name the target.
    - The attacked classifier is zero-shot CLIP with one prompt for each class.
    - Constants are as reconstructed.
    """

    citations = ("turner2019labelconsistent",)
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
                f"--set attack.rate={self.params.rate:g}: {count} poisons need that many training captions naming the target "
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
        """The change of the images at `rows` by interpolation with random images at `others`.

        Returns
        -------
        int16 (n, 3, side, side)
            In grey levels; n = 0 if `interpolation` is 0.
        """
        if not self.params.interpolation:
            return torch.empty(0, 3, 0, 0, dtype=torch.int16)
        partners = rng.choice(others, size=len(rows), replace=len(rows) > len(others))
        difference = images.load(partners).float() - images.load(rows).float()
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
    """Perturb images away from the target class by projected gradient descent (Madry et al. 2018), without a random start.

    Ascends the zero-shot cross-entropy of class `target` at temperature 0.01, by sign steps of 2.5 epsilon / steps.

    Parameters
    ----------
    images : float32 (n, 3, side, side)
        Values in [0, 1].
    classes : float32 (c, d)
        Unit-length text embeddings of the classes.
    target : int
        Row of the target class in `classes`.
    surrogate : Surrogate
        The attacked model.
    epsilon : float
        Radius of the l-infinity ball, on the scale of the images.
    steps : int
        Number of steps, at least 1.

    Returns
    -------
    float32 (n, 3, side, side)
        Values in [0, 1].
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
