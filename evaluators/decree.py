"""DECREE: detection of backdoored models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from bench.api import DatasetBundle, EvalContext, Evaluator, Measurement, Metric, Params, Surrogate
from bench.data.augment import to_float
from bench.registry import register_evaluator

_EPSILON = 1e-7


class DECREEParams(Params):
    images: int = Field(default=1024, ge=2, description="number of clean held-out images, drawn at random")
    passes: int = Field(default=40, ge=1, description="maximum number of passes over the images")
    batch_size: int = Field(default=32, ge=2, description="batch size")
    lr: float = Field(default=0.5, gt=0, description="learning rate of Adam")
    similar: float = Field(default=0.99, gt=0, lt=1, description="mean cosine similarity of stamped images required")
    patience: int = Field(default=35, ge=1, description="steps without a smaller trigger before stopping")


@register_evaluator("decree")
class DECREE(Evaluator):
    """Size of the smallest trigger that maps all images to one embedding, DECREE (Feng et al. 2023, CVPR).

    A mask and a pattern are optimised such that stamped images have nearly the same embedding while the mask is small. In a
    backdoored model a small mask suffices, since the trigger maps every image to the target. `pl1` is the L1 norm of the mask
    as a share of the image, 1 if no trigger is found; a small value indicates a backdoor. The search needs no labels, texts or
    knowledge of the attack, but clean models for comparison: reports give the AUROC between models trained without and with
    poison. It looks for patches; blended and warped triggers are not of that form.

    The weight of the norm starts at 0.001 and changes by a factor of five after six consecutive steps above or below the
    similarity.

    Deviations from the released code:
    - 1,024 images and 40 passes, where that code has 10,000 and 1,000, and decays the learning rate after 200 and 500.
    - Images have the model's size.
    """

    citations = ("feng2023decree",)
    Params = DECREEParams
    params: DECREEParams
    metrics = (Metric(name="pl1", better="higher", description="L1 norm of the smallest trigger, of the image", role="model"),)

    @classmethod
    def lacks(cls, bundle: DatasetBundle) -> str | None:
        return None if len(bundle.test) > 1 else "the data set has no held-out images"

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"images": 32, "passes": 2}

    def evaluate(self, ctx: EvalContext) -> list[Measurement]:
        rng = np.random.default_rng([ctx.seed, *b"decree"])
        rows = rng.permutation(len(ctx.bundle.test))[: self.params.images]
        images = to_float(ctx.bundle.test.images.load(rows))
        size = smallest_trigger(ctx.surrogate(), images, self.params, torch.Generator().manual_seed(int(rng.integers(2**31))))
        return [Measurement(metric="pl1", task="model", value=size, n=len(images), ci_low=size, ci_high=size)]


@dataclass
class _Weight:
    """The weight of the norm, multiplied or divided by 5 after more than `patience` consecutive steps of one kind."""

    value: float = 1e-3
    least: float = 1e-7
    most: float = 1e5
    patience: int = 5
    run: int = 0
    last: bool = False
    stuck: int = 0

    def step(self, success: bool) -> None:
        self.stuck = self.stuck + 1 if success and self.value < self.least else 0
        if self.stuck > 2 * self.patience:
            self.value, self.run, self.stuck = 1e-3, 0, 0
        self.run = self.run + 1 if success == self.last else 1
        self.last = success
        if self.run > self.patience:
            self.run = 0
            if success and self.value < self.most:
                self.value *= 5
            elif not success and self.value >= self.least:
                self.value /= 5


def smallest_trigger(model: Surrogate, images: torch.Tensor, params: DECREEParams, generator: torch.Generator) -> float:
    """The mean of the smallest successful mask, in [0, 1]; 1 if there is none. images: float32 (n, 3, side, side) in [0, 1]."""
    side = images.shape[-1]
    mask, pattern = (_free(torch.rand(shape, generator=generator)) for shape in ((side, side), (3, side, side)))
    optimizer = torch.optim.Adam([mask, pattern], lr=params.lr, betas=(0.5, 0.9))
    weight, best, stale = _Weight(), 1.0, 0
    for _ in range(params.passes):
        reached = []
        for rows in torch.randperm(len(images), generator=generator).split(params.batch_size):
            if len(rows) < 2:
                continue
            share, colour = _bounded(mask), _bounded(pattern)
            alike = _likeness(model.encode_image((1 - share) * images[rows] + share * colour))
            optimizer.zero_grad()
            (weight.value * 3 * share.sum() - alike).backward()
            optimizer.step()
            reached.append(float(alike.detach()))
            success, size = reached[-1] > params.similar, float(share.detach().mean())
            stale = 0 if success and size < best else stale + 1
            best = min(best, size) if success else best
            weight.step(success)
        if np.mean(reached) > params.similar and stale > params.patience:
            break
    return best


def _free(values: torch.Tensor) -> torch.Tensor:
    """Unbounded variables for values in [0, 1]."""
    return torch.arctanh((values - 0.5) * (2 - 1e-3)).requires_grad_()


def _bounded(free: torch.Tensor) -> torch.Tensor:
    return (torch.tanh(free) / (2 - _EPSILON) + 0.5).clamp(0, 1)


def _likeness(rows: torch.Tensor) -> torch.Tensor:
    """The mean cosine similarity between different rows, which have unit length."""
    n = len(rows)
    return (rows.sum(dim=0).square().sum() - n) / (n * (n - 1))
