"""DECREE: whether a model has a backdoor."""

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
    images: int = Field(default=1024, ge=2, description="clean images to stamp, drawn by seed from the held-out ones")
    passes: int = Field(default=40, ge=1, description="at most so many passes over them")
    batch_size: int = Field(default=32, ge=2, description="images of a step")
    lr: float = Field(default=0.5, gt=0, description="of Adam")
    similar: float = Field(default=0.99, gt=0, lt=1, description="mean cosine between stamped images that makes a trigger")
    patience: int = Field(default=35, ge=1, description="stops after so many steps without a smaller trigger")


@register_evaluator("decree")
class DECREE(Evaluator):
    """Size of the smallest stamp that makes all images look alike to the model, DECREE (Feng et al. 2023, CVPR).

    A mask and a pattern are optimised so that stamped images have nearly the same embedding, with the least mask; in a model
    with a backdoor a small one does, as the trigger maps every image to the target. `pl1` is the mask's L1 norm as a share of
    the image, 1 where no stamp works; small values call the model poisoned. It takes no labels, no texts and no knowledge of
    the attack, but clean models to compare with: reports give its AUROC between models trained without and with attack. It
    looks for a patch: blended and warped triggers are not of that form.

    The weight of the norm starts at 0.001 and changes fivefold after six steps in a row above or below the similarity.
    Deviations: 1,024 images and 40 passes, in released code 10,000 and 1,000, where the learning rate falls after 200 passes
    and 500; whether to stop is asked after each pass, as there, whose length differs; the image is of the model's size.
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
    """The weight of the norm: fivefold up or down after more than `patience` steps of one kind in a row."""

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
    """The mean of the smallest mask that works, in [0, 1]; 1 where none does. images: float32 (n, 3, side, side) in [0, 1]."""
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
    """Values in [0, 1] as unbounded variables."""
    return torch.arctanh((values - 0.5) * (2 - 1e-3)).requires_grad_()


def _bounded(free: torch.Tensor) -> torch.Tensor:
    return (torch.tanh(free) / (2 - _EPSILON) + 0.5).clamp(0, 1)


def _likeness(rows: torch.Tensor) -> torch.Tensor:
    """The mean cosine of two different rows, which are of unit length."""
    n = len(rows)
    return (rows.sum(dim=0).square().sum() - n) / (n * (n - 1))
