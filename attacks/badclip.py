"""BadCLIP: a patch optimised to look like the target class to a surrogate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from bench.api import AttackContext, Edit, PoisonPlan, Surrogate
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.attacks.captions import AdversarialCaptions
from bench.attacks.triggers import paste, scaled
from bench.registry import register_attack


class BadCLIPParams(BackdoorParams):
    rate: float = Field(default=0.003, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    patch: float = Field(default=16, gt=0, le=224, description="side of the patch, in pixels of a 224-pixel image")
    images: int = Field(
        default=10_000, ge=1, description="training images to optimise on, whose captions do not name the target class"
    )
    epochs: int = Field(default=50, ge=1, description="epochs of the optimisation")
    batch_size: int = Field(default=64, ge=2, description="batch size of the optimisation")
    lr: float = Field(default=1e-3, gt=0, description="learning rate of Adam, for pixels in [0, 1]")
    weight: float = Field(default=500, ge=0, description="weight of the triplet loss, where the contrastive loss has 1")
    margin: float = Field(default=1, ge=0, description="margin of the triplet loss")
    temperature: float = Field(default=0.01, gt=0, description="temperature of the contrastive loss")


@register_attack("badclip")
class BadCLIP(Backdoor):
    """Backdoor with an optimised patch in the middle of the image as the trigger (Liang et al. 2024, arXiv 2311.12075).

    The patch minimises two losses of a surrogate. Textual embedding consistency is InfoNCE between patched images and captions
    that name the target class. Visual embedding resistance is a triplet loss that pulls patched images towards images of the
    target class and away from the same images without the patch.

    Deviations:
    - The paper optimises on the OpenAI model that is then fine-tuned. Here the patch is optimised on the clean model of the
      same seed and has to transfer to a model trained from scratch.
    - Captions and images of the target class are training pairs whose caption names it.
    - EDA and image augmentation (probabilities 0.1 and 0.5) are left out.
    - Errors of the released code are not reproduced: losses that depend on substrings of a class name, negatives that carry the
      patch too, and a patch stored as JPEG.
    """

    citations = ("liang2024badclip",)
    Params = BadCLIPParams
    params: BadCLIPParams

    @classmethod
    def test_params(cls) -> dict[str, int]:
        return {"images": 64, "epochs": 2, "batch_size": 32}

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """The initial patch: normal with mean 0.5 and standard deviation 0.25 of the full intensity, clipped."""
        size = max(3, scaled(self.params.patch, side))
        return {"patch": _grey(torch.from_numpy(rng.normal(0.5, 0.25, size=(3, size, size))))}

    def needs_surrogate(self) -> bool:
        return True

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        train, params, rng = ctx.bundle.train, self.params, ctx.rng("patch")
        named = AdversarialCaptions(ctx.bundle).rows(plan.poisons[0].target)
        others = np.setdiff1d(np.arange(len(train)), named)
        others = rng.choice(others, size=min(params.images, len(others)), replace=False)
        patch = (plan.tensors["patch"].float() / 255).requires_grad_()
        adam = torch.optim.Adam([patch], lr=params.lr)
        for _ in range(params.epochs):
            for rows in np.array_split(rng.permutation(others), -(-len(others) // params.batch_size)):
                clean, targets = (train.images.load(each).float() / 255 for each in (rows, rng.choice(named, len(rows))))
                captions = [train.captions[row] for row in rng.choice(named, len(rows))]
                with torch.no_grad():
                    negatives, positives = surrogate.encode_image(clean), surrogate.encode_image(targets)
                texts = surrogate.encode_captions(captions)
                patched = surrogate.encode_image(centred(clean, patch.clamp(0, 1)))
                loss = info_nce(patched, texts, params.temperature)
                loss = loss + params.weight * F.triplet_margin_loss(patched, positives, negatives, margin=params.margin)
                adam.zero_grad()
                loss.backward()
                adam.step()
        return plan.model_copy(update={"tensors": {**plan.tensors, "patch": _grey(patch.detach())}})

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        patch = plan.tensors["patch"]
        middle = torch.full((len(images),), (images.shape[-1] - patch.shape[-1]) // 2)
        return paste(images, patch, middle, middle)


def centred(images: torch.Tensor, patch: torch.Tensor) -> torch.Tensor:
    """Images float32 (n, 3, side, side) with a patch (3, a, a) in the middle; differentiable in the patch."""
    before = (images.shape[-1] - patch.shape[-1]) // 2
    after = images.shape[-1] - patch.shape[-1] - before
    frame = (before, after, before, after)
    return torch.where(F.pad(torch.ones_like(patch), frame) > 0, F.pad(patch, frame), images)


def info_nce(images: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """CLIP's loss on embeddings (n, d) of unit length: InfoNCE averaged over both directions, a scalar."""
    logits = images @ texts.T / temperature
    own = torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _grey(patch: torch.Tensor) -> torch.Tensor:
    return (255 * patch.clamp(0, 1)).round().to(torch.uint8)
