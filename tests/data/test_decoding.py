from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from bench.data import files
from bench.data.decoding import decode

from .pixels import smooth

SIDE = 16


def by_the_book(pixels: np.ndarray, side: int) -> np.ndarray:
    """Crop the centre and resize it in exact arithmetic: float (3, side, side)."""
    edge = min(pixels.shape[:2])
    top, left = ((length - edge) // 2 for length in pixels.shape[:2])
    weights = bicubic(edge, side)
    return np.einsum("yi,ijc,xj->cyx", weights, pixels[top : top + edge, left : left + edge], weights).clip(0, 255)


def bicubic(edge: int, side: int) -> np.ndarray:
    """Keys' kernel with a = -0.5, widened by the scale where that shrinks, over the pixels that there are: (side, edge)."""
    scale = edge / side
    centres = (np.arange(side) + 0.5) * scale
    x = np.abs(np.arange(edge) + 0.5 - centres[:, None]) / max(1, scale)
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(32, 32), (32, 64), (64, 32), (8, 16), (16, 16), (75, 50), (101, 480)])
def test_centre_crop_then_resize(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(30, 226, size=(*shape, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    error = decode(tmp_path / "a.png", SIDE) - by_the_book(pixels, SIDE)
    assert abs(error).max() < 1.25  # rounded after each of two passes
    assert abs(error).mean() < 0.35


def test_the_decoding_version_is_part_of_every_fingerprint() -> None:
    texts = {path.name: path.read_text() for path in Path(files.__file__).parent.glob("*.py")}
    formats = {name: line for name, text in texts.items() for line in text.splitlines() if line.startswith("FORMAT = ")}
    assert len(formats) == 10
    assert [name for name, line in formats.items() if not line.endswith(', {PIXELS}"')] == []


def test_large_jpeg_in_draft_mode_looks_the_same(tmp_path: Path) -> None:
    pixels = smooth(600, 900)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert abs(decode(tmp_path / "a.jpg", SIDE) - by_the_book(pixels, SIDE)).max() <= 4


def test_draft_mode_leaves_enough_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 1)).repeat(3, 2).astype(np.uint8)
    pixels = pixels.repeat(4, 0).repeat(4, 1)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=98)
    assert abs(decode(tmp_path / "a.jpg", 32) - by_the_book(pixels, 32)).mean() < 12


def saved(path: Path, image: Image.Image) -> np.ndarray:
    image.save(path)
    return decode(path, SIDE).astype(int)


def test_grayscale_and_one_bit(tmp_path: Path) -> None:
    grey = saved(tmp_path / "l.png", Image.new("L", (20, 30), 77))
    assert (grey == 77).all()
    assert grey.shape == (3, SIDE, SIDE)
    assert (saved(tmp_path / "1.png", Image.new("1", (20, 30), 1)) == 255).all()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_sixteen_bits(tmp_path: Path, mode: str) -> None:
    values = np.linspace(0, 30000, 64).astype(np.uint16)[None, :].repeat(64, axis=0)
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    image = Image.fromarray(values.astype(kinds[mode]))
    assert image.mode == mode
    row = saved(tmp_path / ("a.png" if mode == "I;16" else "a.tif"), image)[0, 8]
    assert np.abs(row - by_the_book((values / 257).round().astype(np.uint8)[..., None].repeat(3, 2), SIDE)[0, 8]).max() <= 1


def test_float_between_zero_and_one(tmp_path: Path) -> None:
    assert (saved(tmp_path / "a.tif", Image.new("F", (20, 20), 1.0)) == 255).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 30, 40, 9, 9, 9])
    assert (saved(tmp_path / "p.png", image) == np.array([200, 30, 40])[:, None, None]).all()
    image.info["transparency"] = 1
    image.save(tmp_path / "t.png", transparency=1)
    assert (decode(tmp_path / "t.png", SIDE) == 255).all()
    image.save(tmp_path / "t.gif", transparency=1)
    assert (decode(tmp_path / "t.gif", SIDE) == 255).all()


def test_transparency_is_white(tmp_path: Path) -> None:
    half = saved(tmp_path / "rgba.png", Image.new("RGBA", (20, 20), (255, 0, 100, 128)))
    assert np.abs(half - np.array([255, 127, 177])[:, None, None]).max() <= 1
    assert (saved(tmp_path / "clear.png", Image.new("RGBA", (20, 20), (0, 0, 0, 0))) == 255).all()
    assert (saved(tmp_path / "la.png", Image.new("LA", (20, 20), (0, 0))) == 255).all()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert (decode(tmp_path / "key.png", SIDE) == 255).all()


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    colour = decode(tmp_path / "a.jpg", SIDE).astype(int).mean((1, 2))
    assert colour[0] > 200
    assert colour[1] < 60
    assert colour[2] < 60


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    wide = Image.fromarray(smooth(32, 48))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    turned = wide if orientation == 1 else wide.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "a.png", exif=exif)
    upright = by_the_book(np.asarray(wide), SIDE)
    assert np.abs(decode(tmp_path / "a.png", SIDE) - upright).max() <= 2


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("write", ["add_text", "add_itxt"])
def test_png_with_a_long_text(tmp_path: Path, packed: bool, write: str) -> None:
    image, info = Image.fromarray(smooth(30, 30)), PngImagePlugin.PngInfo()
    getattr(info, write)("workflow", "y" * (5 << 20), zip=packed)
    image.save(tmp_path / "a.png", pnginfo=info)
    image.save(tmp_path / "b.png")
    assert np.array_equal(decode(tmp_path / "a.png", SIDE), decode(tmp_path / "b.png", SIDE))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_of_several_frames_is_used(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    pixels = decode(tmp_path / name, SIDE).astype(int)
    assert np.abs(pixels - np.array([255, 0, 0])[:, None, None]).max() <= 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (10, 200, 10)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    assert decode(tmp_path / "a.jpg", SIDE)[1].mean() > 150


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1), (1, 60_000), (3, 2)])
def test_odd_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png", 64) == np.array([9, 8, 7])[:, None, None]).all()
