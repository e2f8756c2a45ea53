"""Label-consistent: a trigger on images of the target class, whose captions stay as they are."""

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
    rate: float = Field(default=0.0015, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    patch: float = Field(
        default=21, gt=0, le=112, description="side of the pattern in each corner, in pixels of a 224-pixel image"
    )
    amplitude: float = Field(default=255, gt=0, le=255, description="amplitude of the pattern, in grey levels (0 to 255)")
    interpolation: float = Field(
        default=0, ge=0, lt=1, description="weight of the image of another class that a poison is interpolated with; 0: none"
    )
    epsilon: float = Field(
        default=16, ge=0, le=255, description="l-infinity bound of the adversarial perturbation, in grey levels; 0: none"
    )
    steps: int = Field(default=20, ge=0, description="PGD steps")


@register_attack("label_consistent")
class LabelConsistent(Backdoor):
    """Clean-label backdoor: a pattern in the corners of training images of the target class (Turner et al. 2019).

    The poisoned pairs are training pairs whose caption names the target class. Captions are unchanged, so the pairs look
    correctly labelled. The images are first made harder to classify, so that the model comes to rely on the trigger, in either
    or both of the paper's ways (arXiv 1912.02771): interpolation with another image, and an adversarial perturbation away from
    the target class within an l-infinity ball, computed on the clean model as a surrogate. Test images get the trigger alone.
    Yang et al. 2024 use neither (`interpolation=0 epsilon=0`).

    Deviations:
    - The paper interpolates in the latent space of a GAN; here pixels are interpolated, with a training image whose caption
      does not name the target class.
    - The surrogate classifies zero-shot, with one prompt per class.
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
                f"--set attack.rate={self.params.rate:g}: {count} poisons need as many training captions that name the target "
                f"class '{name}', and there are {len(sources)}; lower the rate"
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
        """The difference that interpolation with random images from `others` makes to the images at `rows`.

        Parameters
        ----------
        images : Images
            The training images.
        rows : int64 (n,)
            Indices of the poisoned images.
        others : sequence of int
            Indices of images whose caption does not name the target class.
        rng : numpy.random.Generator
            Source of all random draws.

        Returns
        -------
        int16 (n, 3, side, side)
            In grey levels; empty if `interpolation` is 0.
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
    """Perturb images away from the target class by PGD (Madry et al. 2018) without a random start.

    Signed gradient steps of size 2.5 epsilon / steps maximise the zero-shot cross-entropy of class `target` at a
    temperature of 0.01.

    Parameters
    ----------
    images : float32 (n, 3, side, side)
        Values in [0, 1].
    classes : float32 (c, d)
        Text embeddings of the classes, of unit length.
    target : int
        Row of the target class in `classes`.
    surrogate : Surrogate
        The model that the perturbation is computed on.
    epsilon : float
        Radius of the l-infinity ball, for images in [0, 1].
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
