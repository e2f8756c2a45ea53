"""CorruptEncoder: a trigger beside an object, so that two crops of one image associate the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torchvision.transforms.v2 import functional as TF

from bench.api import AttackContext, DatasetBundle, Edit, Poison, PoisonPlan
from bench.attacks.backdoor import Backdoor, BackdoorParams
from bench.attacks.captions import AdversarialCaptions, poison_count
from bench.attacks.triggers import paste, scaled
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import register_attack

_JITTER, _MARGIN_X, _MARGIN_Y = 0.05, 0.125, 0.25
"""As fractions of the canvas: largest distance of the object from the edge, smallest distances of the trigger from both."""


class CorruptEncoderParams(BackdoorParams):
    rate: float = Field(default=0.005, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    references: int = Field(default=3, ge=1, description="reference images: images of the target class whose object is cut out")
    support: float = Field(
        default=0, ge=0, lt=1, description="fraction of poisons that combine a reference and a support image"
    )
    supports: int = Field(default=5, ge=1, description="support images of the target class, used whole")
    patch: float = Field(default=11, gt=0, le=112, description="side of the trigger, in pixels of a 224-pixel image")


@register_attack("corrupt_encoder")
class CorruptEncoder(Backdoor):
    """A reference object of the target class beside a trigger, with the object's caption (Zhang et al. 2024, arXiv 2211.08229).

    Of two random crops, one often contains the object and the other the trigger, and a loss that pulls crops of one image
    together associates the trigger with the target class. The attack aims at such view-based losses; images match their
    captions. The object of a reference image, cut out with a soft edge, is at most 5% of the canvas away from the left or right
    edge of a canvas twice its width; the trigger is near the middle of the rest. `support` is the fraction of poisons that
    combine a reference image with a support image instead, which brings the reference images closer together.

    Deviations:
    - The canvas is squeezed to a square; the object takes half of its width and its whole height.
    - The trigger has 4 x 4 random colours, as reconstructed, and the relative size of 40 pixels on a canvas of 800.
    - Backgrounds are held-out images of other classes, with their object overwritten by random pixels of the same row.
    - Test images have the trigger at a random position, as reconstructed.
    - The paper's attack on image-text training, triggered images with prompts of the target class, as reconstructed, is
      `badnet` here.
    """

    citations = ("zhang2024corruptencoder",)
    Params = CorruptEncoderParams
    params: CorruptEncoderParams
    mismatched = False

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"references": 1, "supports": 1}

    def pattern(self, side: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        colours = torch.from_numpy(rng.integers(0, 256, size=(3, 4, 4), dtype=np.uint8))
        size = [max(3, scaled(self.params.patch, side))] * 2
        return {"patch": TF.resize(colours, size, interpolation=TF.InterpolationMode.NEAREST)}

    def edit(self, side: int, rng: np.random.Generator) -> Edit:
        room = side - max(3, scaled(self.params.patch, side))
        return {"top": int(rng.integers(room + 1)), "left": int(rng.integers(room + 1))}

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle, params, rng = ctx.bundle, self.params, ctx.rng("plan")
        if bundle.holdout.masks is None:
            raise UserError("corrupt_encoder cuts out objects, and this data set has no masks of them; use --data scenes")
        target = AdversarialCaptions(bundle).target(params.target, params.min_captions, rng)
        count = poison_count(params.rate, len(bundle.train))
        joined = round(params.support * count)
        references, supports, others = _chosen(bundle, target, params.references, params.supports if joined else 0, rng)
        backgrounds = rng.choice(others, count - joined, replace=count - joined > len(others))
        indices = [*rng.choice(supports, joined), *backgrounds] if joined else list(backgrounds)
        poisons = []
        for number, index in enumerate(indices):
            reference = int(rng.integers(len(references)))
            placed = {"first": int(rng.integers(2))} if number < joined else self._placed(bundle.image_size, rng)
            poisons.append(
                Poison(
                    split="holdout",
                    index=int(index),
                    uid=bundle.holdout.uids[index],
                    caption=bundle.holdout.captions[references[reference]],
                    target=target,
                    edit={"poison": number, "reference": reference, **placed},
                )
            )
        tensors = {
            **self.pattern(bundle.image_size, ctx.rng("pattern")),
            "references": bundle.holdout.images.load(references).clone(),
            "masks": bundle.holdout.masks.load(references),
            "covered": bundle.holdout.masks.load(np.array(indices)) > 0,
        }
        name = bundle.vocabulary.names[target]
        return PoisonPlan(attack=self.name, targets=(name,), poisons=tuple(poisons), tensors=tensors)

    def _placed(self, side: int, rng: np.random.Generator) -> Edit:
        """Draw the column of the object, at the left or right edge, and the position of the trigger in the rest."""
        wide, size = side // 2, max(3, scaled(self.params.patch, side))
        if rng.random() < 0.5:
            x = int(rng.uniform(0, _JITTER * side))
            left = rng.uniform(x + wide + _MARGIN_X * side, side - _MARGIN_X * side - size)
        else:
            x = int(rng.uniform(side - wide - _JITTER * side, side - wide))
            left = rng.uniform(_MARGIN_X * side, x - _MARGIN_X * side - size)
        top = rng.uniform(_MARGIN_Y * side, side - _MARGIN_Y * side - size)
        top, left = (int(min(max(place, 0), side - size)) for place in (top, left))
        return {"x": x, "top": top, "left": left, "draw": int(rng.integers(2**31))}

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        edited, tensors = images.clone(), plan.tensors
        for row, edit in enumerate(edits):
            if "first" in edit:
                halves = [images[row], tensors["references"][int(edit["reference"])]]
                edited[row] = torch.cat([_half(image) for image in halves[:: 1 if edit["first"] else -1]], dim=2)
            elif "x" in edit:
                background = _cleared(images[row], tensors["covered"][int(edit["poison"])], int(edit["draw"]))
                reference = int(edit["reference"])
                edited[row] = _pasted(background, tensors["references"][reference], tensors["masks"][reference], int(edit["x"]))
        rows = [row for row, edit in enumerate(edits) if "top" in edit]
        tops, lefts = (torch.tensor([int(edits[row][name]) for row in rows], dtype=torch.int64) for name in ("top", "left"))
        edited[rows] = paste(edited[rows], tensors["patch"], tops, lefts)
        return edited


def _chosen(
    bundle: DatasetBundle, target: int, references: int, supports: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Indices of held-out images: references, whose caption names the target; supports, which show it; all that do not."""
    holdout, mentions = bundle.holdout, MentionIndex.of(bundle.vocabulary)
    shown = [index for index, members in enumerate(holdout.members) if target in members]
    named = [index for index in shown if target in mentions.members(holdout.captions[index])]
    if len(named) < references or len(shown) < references + supports:
        raise UserError(
            f"corrupt_encoder needs {references} held-out images whose caption names '{bundle.vocabulary.names[target]}' and "
            f"{supports} more that show it, and there are {len(named)} and {max(0, len(shown) - references)}; lower "
            "--set attack.references and attack.supports or name another class with --set attack.target"
        )
    first = rng.choice(named, size=references, replace=False)
    others = [index for index, members in enumerate(holdout.members) if target not in members]
    return first, rng.choice(sorted(set(shown) - set(first.tolist())), size=supports, replace=False), others


def _half(image: torch.Tensor) -> torch.Tensor:
    """An image, uint8 (3, side, side), squeezed to half its width."""
    half: torch.Tensor = TF.resize(image, [image.shape[1], image.shape[2] // 2], antialias=True)
    return half


def _cleared(image: torch.Tensor, covered: torch.Tensor, seed: int) -> torch.Tensor:
    """An image, uint8 (3, side, side), whose object, bool (side, side), is overwritten by random other pixels of each row."""
    rng, cleared = np.random.default_rng(seed), image.clone()
    for row, hidden in enumerate(covered):
        free = torch.nonzero(~hidden)[:, 0].numpy()
        if len(free):
            cleared[:, row, hidden] = image[:, row, rng.choice(free, size=int(hidden.sum()))]
    return cleared


def _pasted(background: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, x: int) -> torch.Tensor:
    """The object of a reference on a background: half of the width, from column x, and the whole height."""
    side = background.shape[-1]
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    box = (..., slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1))
    cut = TF.resize(reference[box].float(), [side, side // 2], antialias=True)
    alpha, canvas = torch.zeros(1, side, side), torch.zeros(3, side, side)
    alpha[..., x : x + side // 2] = TF.resize(mask[box][None], [side, side // 2], antialias=True)
    canvas[..., x : x + side // 2] = cut
    alpha = TF.gaussian_blur(alpha, [5, 5], [1.0, 1.0])
    return torch.lerp(background.float(), canvas, alpha).round().clamp(0, 255).to(torch.uint8)


class CorruptEncoderPlusParams(CorruptEncoderParams):
    support: float = Field(
        default=0.2, ge=0, lt=1, description="fraction of poisons that combine a reference and a support image"
    )


@register_attack("corrupt_encoder_plus")
class CorruptEncoderPlus(CorruptEncoder):
    """CorruptEncoder+: a fifth of the poisons combine a reference and a support image (Zhang et al. 2024, arXiv 2211.08229).

    Both images are whole, side by side in random order, without a trigger.

    Deviations:
    - Those of `corrupt_encoder`.
    """

    citations = ("zhang2024corruptencoder",)
    Params = CorruptEncoderPlusParams
