"""A defense's loss on several ranks, such that every update equals that of one process on the whole batch.

Each rank encodes its rows of the batch. The embeddings are all-gathered, so every rank computes the same loss on the whole
batch, and pools and splits that depend on embeddings stay equal. The backward pass of the gather returns the gradient of the
rank's own rows, without communication, times the number of ranks. The mean over ranks is then the gradient of one process,
both for the towers, to which each rank contributes its rows, and for parameters that every rank sees whole (logit scale,
modules of the defense).

DistributedDataParallel around the whole loss takes that mean: it overlaps the reduction with the backward pass, and copes with
parameters that a phase leaves without gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from bench.api import Batch, Defense, Phase
from bench.errors import UserError
from bench.models.encoder import ClipEncoder
from bench.training.ranks import Ranks

Loss = Callable[[Batch, Phase], torch.Tensor]


def joint_loss(defense: Defense, encoder: ClipEncoder, held: nn.Module, ranks: Ranks) -> Loss:
    """`defense.loss` on the whole batch, given each rank's rows of it; all ranks start from the weights of rank 0."""
    if ranks.count == 1:
        return lambda batch, phase: defense.loss(batch, encoder, phase)
    return DistributedDataParallel(_JointLoss(defense, encoder, held, ranks), find_unused_parameters=True)


def synchronised(model: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """The model with batch normalisation over the rows of all ranks. Raises UserError for one on several CPU processes."""
    if ranks.count == 1 or not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return model
    if device.type != "cuda":
        raise UserError(
            "torchrun: the model has batch normalisation, which PyTorch synchronises between GPUs only; "
            "on a CPU use one process, or a model without it, for example --model scenes-vit-8"
        )
    return cast("nn.Module", convert_sync_batchnorm(model))  # type: ignore[no-untyped-call]


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
    """An encoder that takes this rank's rows of a batch and returns the embeddings of all `total` rows."""

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

    def encode_prompts(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._encoder.encode_prompts(tokens)

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        return self._whole(self._encoder.trunk, images)

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._both(self._encoder.image_parts, images)

    def text_parts(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._both(self._encoder.text_parts, tokens)

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        outputs: tuple[torch.Tensor, ...] = ()

        def embed(rows: torch.Tensor) -> torch.Tensor:
            nonlocal outputs
            embeddings, outputs = self._encoder.stages(rows)
            return embeddings

        whole = self._whole(embed, images)
        return whole, tuple(self._whole(partial(_given, output), images) for output in outputs)

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
                f"the defense encodes {len(view)} rows, but this rank has {rows.stop - rows.start} rows of the batch: "
                "on several ranks it must encode each view of the batch whole, and select embeddings afterwards"
            )
        mine = encode(view)
        return mine if self._total < self._ranks.count else _Gathered.apply(mine, self._ranks, self._total)


def _given(output: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return output


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: torch.Tensor, ranks: Ranks, total: int) -> torch.Tensor:
        ctx.rows, ctx.count = ranks.rows(total), ranks.count
        return ranks.gather(mine, total)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return ctx.count * gradient[ctx.rows], None, None
