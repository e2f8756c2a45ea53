"""Vocabularies that several data sources share."""

from __future__ import annotations

from functools import cache

from bench.api.data import Vocabulary


@cache
def imagenet() -> Vocabulary:
    """The 1,000 classes of ImageNet and the 80 templates of OpenAI's CLIP, from open_clip.

    Two pairs of classes share a name: "missile" and "sunglasses".
    """
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    return Vocabulary(tuple(IMAGENET_CLASSNAMES), tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES))
