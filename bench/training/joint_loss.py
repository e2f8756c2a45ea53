"""A defense's loss, computed by several processes so that every update is that of one process on the whole batch.

Each process takes its rows of a batch through the towers. Embeddings of the whole batch are gathered, so every process computes
the same loss, and pools and splits that follow from embeddings stay the same everywhere. The gradient of the loss is then whole
on every process; back through a gather goes the part of the process's own rows, which needs no communication, times the number
of processes. So the mean over processes is right for all parameters: those of the towers, to which each contributes its rows,
and those that every process sees whole (logit scale, modules that a defense holds).

That mean is taken by DistributedDataParallel, around the loss as a whole: its buckets are reduced while backward still runs,
which is what counts between GPUs, and it copes with parameters that a phase leaves without a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from bench.api import Batch, Defense, Phase
from bench.errors import UserError
from bench.models.encoder import ClipEncoder
from bench.training.ranks import Ranks

Loss = Callable[[Batch, Phase], torch.Tensor]


def joint_loss(defense: Defense, encoder: ClipEncoder, held: nn.Module, ranks: Ranks) -> Loss:
    """`defense.loss` on the whole batch, of which each process is given its rows; all start from the first one's weights."""
    if ranks.count == 1:
        return lambda batch, phase: defense.loss(batch, encoder, phase)
    return DistributedDataParallel(_JointLoss(defense, encoder, held, ranks), find_unused_parameters=True)


def synchronised(model: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """The model with batch normalisation over the rows of all processes. Raises UserError where that cannot be had."""
    if ranks.count == 1 or not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return model
    if device.type != "cuda":
        raise UserError(
            "torchrun: the model has batch normalisation, which PyTorch synchronises between GPUs only; "
            "on a CPU use one process, or a model without it, for example --model scenes-vit-8"
        )
    return convert_sync_batchnorm(model)


class _JointLoss(nn.Module):
    def __init__(self, defense: Defense, encoder: ClipEncoder, held: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self._encoder = encoder
        self._held = held
        self._defense = defense
        self._ranks = ranks

    def forward(self, batch: Batch, phase: Phase) -> torch.Tensor:
        return self._defense.loss(batch, _WholeBatch(self._encoder, self._ranks, len(batch.indices)), phase)


class _WholeBatch:
    """Takes this process's rows of a batch and gives the embeddings of all `total`."""

    def __init__(self, encoder: ClipEncoder, ranks: Ranks, total: int) -> None:
        self._encoder = encoder
        self._ranks = ranks
        self._total = total

    @property
    def logit_scale(self) -> torch.Tensor:
        return self._encoder.logit_scale

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self._whole(self._encoder.encode_image, images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._whole(self._encoder.encode_text, tokens)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        return self._whole(self._encoder.trunk, images)

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._both(self._encoder.image_parts, images)

    def text_parts(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._both(self._encoder.text_parts, tokens)

    def _both(
        self, encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], view: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        parts: list[torch.Tensor] = []

        def embed(rows: torch.Tensor) -> torch.Tensor:
            embeddings, mine = encode(rows)
            parts.append(mine)
            return embeddings

        return self._whole(embed, view), self._whole(lambda rows: parts[0], view)

    def _whole(self, encode: Callable[[torch.Tensor], torch.Tensor], view: torch.Tensor) -> torch.Tensor:
        rows = self._ranks.rows(self._total)
        if len(view) != rows.stop - rows.start:
            raise ValueError(
                f"the defense encodes {len(view)} rows where this process has {rows.stop - rows.start} of the batch: "
                "with several processes it must encode the batch's views whole, and choose among embeddings"
            )
        mine = encode(view)
        return mine if self._total < self._ranks.count else _Gathered.apply(mine, self._ranks, self._total)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor, ranks: Ranks, total: int) -> torch.Tensor:
        ctx.rows, ctx.count = ranks.rows(total), ranks.count
        return ranks.collect(mine, total)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return ctx.count * gradient[ctx.rows], None, None
