from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from bench.api import Images, Task, Vocabulary
from bench.evaluators.corruptions import CORRUPTIONS, Corrupted, Corruptions, CorruptionsParams
from bench.registry import evaluators
from bench.testing.small import bundle, eval_context


@dataclass(frozen=True, eq=False)
class Pixels:
    pixels: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, indices: np.ndarray) -> torch.Tensor:
        return self.pixels[torch.from_numpy(indices)]


def _images(side: int = 16) -> Pixels:
    generator = torch.Generator().manual_seed(0)
    return Pixels(torch.randint(0, 256, (5, 3, side, side), generator=generator, dtype=torch.uint8))


def test_jpeg_is_pillows() -> None:
    image = bundle().test.images.load(np.array([0]))
    found = CORRUPTIONS["jpeg"](image, 58, [(0, 0)])[0].permute(1, 2, 0).numpy().astype(int)
    file = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=58)
    assert np.abs(found - np.asarray(Image.open(file), dtype=int)).mean() < 2
    assert np.abs(found - image[0].permute(1, 2, 0).numpy()).mean() > 2


def test_blur_is_scipys_gaussian() -> None:
    images = _images(24).pixels
    found = CORRUPTIONS["blur"](images, 0.7, [(0, row) for row in range(5)]).numpy().astype(float)
    expected = gaussian_filter(images.numpy().astype(float), sigma=(0, 0, 0.7, 0.7), mode="mirror", truncate=4)
    assert np.abs(found - expected).max() <= 1


def test_contrast_shrinks_the_distance_from_a_channels_mean() -> None:
    images = _images().pixels
    found = CORRUPTIONS["contrast"](images, 0.4, [(0, row) for row in range(5)]).numpy().astype(float)
    for image, flat in zip(images.numpy().astype(float), found, strict=True):
        for channel in range(3):
            mean = image[channel].mean()
            assert np.abs(flat[channel] - (mean + 0.4 * (image[channel] - mean))).max() <= 0.5 + 1e-4


def test_noise_has_its_deviation_and_follows_the_image() -> None:
    grey = Pixels(torch.full((3, 3, 64, 64), 128, dtype=torch.uint8))
    noisy = Corrupted(grey, "noise", 3, seed=7).load(np.arange(3)).float() / 255
    assert float((noisy - 128 / 255).std()) == pytest.approx(0.08, rel=0.02)
    alone = Corrupted(grey, "noise", 3, seed=7).load(np.array([2])).float() / 255
    assert torch.equal(alone[0], noisy[2]), "noise depends on what else is in the batch"
    assert not torch.equal(noisy[0], noisy[1])
    assert not torch.equal(alone, Corrupted(grey, "noise", 3, seed=8).load(np.array([2])).float() / 255)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_grow(name: str) -> None:
    images = bundle().test.images
    rows = np.arange(16)
    clean = images.load(rows).float()
    changes = [(Corrupted(images, name, severity, 0).load(rows).float() - clean).abs().mean() for severity in (1, 3, 5)]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_large_images_take_the_constants_of_imagenet() -> None:
    grey = Pixels(torch.full((1, 3, 96, 96), 128, dtype=torch.uint8))
    noisy = Corrupted(grey, "noise", 1, seed=0).load(np.arange(1)).float() / 255
    assert float(noisy.std()) == pytest.approx(0.08, rel=0.03)


def test_the_mean_of_the_four_and_work_that_tasks_share() -> None:
    loads: list[int] = []

    class Bright:
        """Says class 1 of images brighter than the first one; a corruption may change that."""

        def image_features(self, images: Images) -> torch.Tensor:
            loads.append(id(images))
            bright = images.load(np.arange(len(images))).float().std(dim=(1, 2, 3)) > 40
            return torch.stack([(~bright).float(), bright.float()], dim=1)

        def classifier(self, vocabulary: Vocabulary) -> torch.Tensor:
            return torch.eye(2)

    images = bundle().test.images
    labels = np.arange(len(images)) % 2
    task = Task("kind", Vocabulary(("a", "b"), ("{}",)), images, labels, images, labels)
    ctx = replace(eval_context(evaluators["corruptions"]), model=Bright())  # type: ignore[arg-type]
    ctx = replace(ctx, bundle=replace(ctx.bundle, tasks=(task, replace(task, name="other"))))
    found = {(each.metric, each.task): each.value for each in Corruptions(CorruptionsParams()).evaluate(ctx)}
    single = [found[f"top1_{name}", "kind"] for name in CORRUPTIONS]
    assert found["top1_corrupted", "kind"] == pytest.approx(np.mean(single))
    assert len(set(single)) > 1
    assert len(set(loads)) == len(CORRUPTIONS), "two tasks with the same images have them corrupted twice"
