"""Decode image files of any format, mode and size into square RGB images."""

from __future__ import annotations

import errno
import functools
import io
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from bench.errors import UserError

PIXELS = "pixels 2"
"""Version of the decoding; part of the fingerprint of all data sets that are decoded or resized here."""
MAX_PIXELS = 89_478_485
SKIP = "or skip such images with --set data.on_error=skip"

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # long text chunks do no harm

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Possible white levels of modes with more than 8 bits; the smallest that no pixel exceeds is used.
_WHITES = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0, 2.0**31 - 1)}
_BAD_METADATA = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)
_SYSTEM_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}


def decode(path: str | Path, side: int, content: bytes | None = None, remedy: str = f"replace it, {SKIP}") -> NDArray[np.uint8]:
    """Decode an image file: upright, on white if transparent, cropped to the centre square and resized.

    Parameters
    ----------
    path : str or Path
        The file, or, if `content` is given, its name in error messages.
    side : int
        Side of the result in pixels.
    content : bytes, optional
        The content of the file, if it has been read already.
    remedy : str
        The end of error messages: what the user can do.

    Returns
    -------
    uint8 (3, side, side)
        RGB.

    Raises
    ------
    UserError
        If the file is missing, damaged, not an image, or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft(None, (2 * side, 2 * side))
            image.load()
            return square_pixels(image, side)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = f"has more than {MAX_PIXELS:,} pixels"
    except FileNotFoundError:
        problem = "is missing"
    except UnidentifiedImageError:
        problem = "is not an image in a known format"
    except Exception as error:  # Pillow's decoders raise many kinds of errors
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _SYSTEM_ERRORS:
            raise
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise UserError(f"image {path} {problem}: {remedy}")


@functools.cache
def _formats() -> list[str]:
    """All formats of Pillow, in its order, except EPS, which would start Ghostscript."""
    Image.preinit()
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


def square_pixels(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Pixels of an opened image, as from `decode`: uint8 (3, side, side)."""
    turn = _UPRIGHT.get(_orientation(image))
    colours = _rgb(image)
    return _square(np.asarray(colours if turn is None else colours.transpose(turn)), side)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64)).clip(0)
    levels = _WHITES.get(image.mode, (65535.0,))
    white = next((level for level in levels if values.max() <= level), values.max())
    return (values * (255 / white)).round().astype(np.uint8)


def _square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Crop the centre square of uint8 (height, width, 3) and resize it bicubically: uint8 (3, side, side).

    The kernel is Pillow's. Torch's integer arithmetic is closer to the exact result, the same on every processor and takes a
    quarter of the time. The crop is copied because torch would start a thread pool to make it contiguous.
    """
    height, width, _ = pixels.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    centre = pixels[top : top + edge, left : left + edge].copy()
    channels = torch.from_numpy(centre).permute(2, 0, 1)[None]
    return F.interpolate(channels, (side, side), mode="bicubic", antialias=True)[0].numpy()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _BAD_METADATA:
        return 1
