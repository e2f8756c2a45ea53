"""A small ResNet for images of 32 pixels, with the stem of ResNet-D but without its max pooling."""

from __future__ import annotations

from typing import Any, cast

from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


@register_model
def bench_resnet10(pretrained: bool = False, num_classes: int = 1000, **_: Any) -> ResNet:
    """Four stages of one basic block, with 24 to 144 channels, at strides 2 to 16 (He et al. 2016; stem of He et al. 2019)."""
    if pretrained:
        raise ValueError("bench_resnet10 has no pretrained weights")
    model: Any = ResNet(
        block=cast(Any, BasicBlock),
        layers=(1, 1, 1, 1),
        channels=(24, 48, 96, 144),
        num_classes=num_classes,
        stem_type="deep",
        stem_width=16,
        avg_down=True,
    )
    model.maxpool = nn.Identity()
    model.default_cfg = {"pool_size": None}
    return cast(ResNet, model)
