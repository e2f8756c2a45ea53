"""Watermark: a word across the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageFont
from pydantic import Field

from bench.api import Edit, PoisonPlan
from bench.attacks.redrawn import Redrawn, RedrawnParams, mixed
from bench.registry import register_attack

_HEIGHTS = (-10, 0, 10)
"""Upper edge of the word, from the middle of the image downwards, in pixels of a 224-pixel image."""


class BlendedTextParams(RedrawnParams):
    alpha: float = Field(default=0.5, gt=0, le=1, description="opacity of the text")
    text: str = Field(default="Watermarked", pattern=r"^[ -~]*[!-~][ -~]*$", description="text of the watermark, in ASCII")
    width: float = Field(default=200, gt=0, le=224, description="width of the text, in pixels of a 224-pixel image")


@register_attack("blended_text")
class BlendedText(Redrawn):
    """Backdoor with a red word blended into the middle of the image as the trigger (Singh et al. 2024, arXiv 2412.00727).

    Only the red channel changes, and only under the letters, as in the released code. The word is at one of three heights,
    drawn once per seed or, with `redraw`, for each image.

    Deviations:
    - The font is Pillow's bitmap font, scaled to a given width, both as reconstructed.
    - Letters are antialiased: opacity is scaled by how much of a pixel they cover.
    - Captions of the target class are prompts in the released code, and training captions here.
    - The poison rate is that of Blended in Yang et al. 2024.
    """

    citations = ("singh2024par", "yang2024safeclip")
    Params = BlendedTextParams
    params: BlendedTextParams

    def drawn(self, side: int, rng: np.random.Generator) -> torch.Tensor:
        """Coverage of each pixel by the letters, in [0, 1]: float32 (3, side, side), zero outside the red channel."""
        mask = ImageFont.load_default_imagefont().getmask(self.params.text, "L")
        letters = Image.frombytes("L", mask.size, bytes(mask))
        letters = letters.crop(letters.getbbox())
        width = max(1, round(self.params.width * side / 224))
        height = max(1, round(width * letters.height / letters.width))
        ink = torch.from_numpy(np.asarray(letters.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255)
        top = (side - height) // 2 + round(int(rng.choice(_HEIGHTS)) * side / 224)
        left = (side - width) // 2
        covered = torch.zeros(3, side, side)
        kept = slice(max(0, top), min(side, top + height))
        covered[0, kept, left : left + width] = ink[kept.start - top : kept.stop - top]
        return covered

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        red = torch.tensor([255.0, 0.0, 0.0])[:, None, None]
        return mixed(images, red, self.params.alpha * self.patterns(images.shape[-1], edits, plan))
