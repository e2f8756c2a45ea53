"""Images as files: PNG, which keeps every pixel, or JPEG, and what that leaves of a trigger."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.data.files import thread_map


@dataclass(frozen=True)
class Encoding:
    """jpeg: the quality of JPEG, 1 to 100, with Pillow's 4:2:0 chroma; None is PNG."""

    jpeg: int | None = None

    @property
    def ending(self) -> str:
        return "png" if self.jpeg is None else "jpg"

    def encode(self, images: torch.Tensor) -> list[bytes]:
        """Each of uint8 (n, 3, side, side) as a file."""
        return thread_map(self._file, list(images.permute(0, 2, 3, 1).contiguous().numpy()))

    def _file(self, pixels: NDArray[np.uint8]) -> bytes:
        content, image = io.BytesIO(), Image.fromarray(pixels)
        if self.jpeg is None:
            image.save(content, "PNG", compress_level=1)
        else:
            image.save(content, "JPEG", quality=self.jpeg)
        return content.getvalue()

    def seen(self, images: torch.Tensor) -> torch.Tensor:
        """The images as whoever opens their files sees them: uint8 (n, 3, side, side)."""
        pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in self.encode(images)]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class TriggerLoss:
    """What files leave of a trigger t, the difference of a poisoned and its clean image; t' is that of their files.

    kept: <t', t> / <t, t>, 1 where nothing is lost; error: the root mean square of t' - t, and rms that of t, in grey levels.
    """

    kept: float
    error: float
    rms: float


def trigger_loss(clean: torch.Tensor, poisoned: torch.Tensor, encoding: Encoding) -> TriggerLoss | None:
    """Over images uint8 (n, 3, side, side) before and after the trigger; None where they are the same."""
    trigger = poisoned.double() - clean.double()
    energy = float(trigger.square().sum())
    if not energy:
        return None
    seen = encoding.seen(poisoned).double() - encoding.seen(clean).double()
    return TriggerLoss(
        kept=float((seen * trigger).sum()) / energy,
        error=float((seen - trigger).square().mean().sqrt()),
        rms=float(trigger.square().mean().sqrt()),
    )
