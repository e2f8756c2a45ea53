"""Neurons that a trigger affects, in the outputs of an image tower's stages."""

from __future__ import annotations

import torch

from bench.api import Encoder
from bench.defenses.inversion import Trigger


@torch.no_grad()
def affected_neurons(model: Encoder, images: torch.Tensor, trigger: Trigger, stages: int) -> dict[int, torch.Tensor]:
    """The neurons whose mean over `images` a trigger changes most, in the `stages` stages that it changes most.

    A stage's change is the distance of its means with and without the trigger, over the norm of the latter. The result has by
    stage a bool tensor in the shape of its output for one image.
    """
    clean, stamped = ([output.mean(dim=0) for output in model.stages(each)[1]] for each in (images, trigger.stamp(images)))
    changes = torch.stack([relative(after, before) for after, before in zip(stamped, clean, strict=True)])
    chosen = changes.topk(min(stages, len(changes))).indices.sort().values.tolist()
    return {stage: upper_cluster((stamped[stage] - clean[stage]).abs()) for stage in chosen}


def misalignment(clean: torch.Tensor, stamped: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
    """The change of a stage's outputs, (n, ...) without and with a trigger, in the means of some neurons: a scalar."""
    return relative(stamped.mean(dim=0) * neurons, clean.mean(dim=0) * neurons)


def relative(changed: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """|changed - base| / |base|, a scalar."""
    distance, norm = torch.linalg.vector_norm(changed - base), torch.linalg.vector_norm(base)
    return torch.as_tensor(distance / norm.clamp(min=1e-6))


def upper_cluster(values: torch.Tensor) -> torch.Tensor:
    """Which values are in the upper of two clusters, by 2-means at its optimum, in one dimension a threshold: bool."""
    ordered = values.flatten().double().sort().values
    below, total = ordered.cumsum(0)[:-1], ordered.sum()
    count = torch.arange(1, len(ordered), device=values.device)
    between = below**2 / count + (total - below) ** 2 / (len(ordered) - count)
    return values >= ordered[between.argmax() + 1].to(values.dtype)
