"""Create models and tokenizers by name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file, save

from bench.canonical import digest
from bench.errors import UserError, did_you_mean
from bench.models import small_resnet, texts  # noqa: F401  registers the architecture with timm
from bench.models.word_tokenizer import ModelTokenizer, cached_by_word


@cache
def _register_configs() -> tuple[str, ...]:
    with as_file(files("bench.models") / "configs") as folder:
        open_clip.add_model_config(folder)
        return tuple(sorted(path.stem for path in folder.glob("*.json")))


def own_models() -> tuple[str, ...]:
    """Names of the small configurations that come with this package."""
    return _register_configs()


def model_names() -> list[str]:
    """Names of all architectures that can be trained from scratch."""
    _register_configs()
    return list(open_clip.list_models())


def config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model. Raises UserError for an unknown name."""
    _register_configs()
    found = open_clip.get_model_config(name)
    if found is None:
        raise UserError(f"--model {name}: unknown model; {did_you_mean(name, model_names())}")
    return dict(found)


def identity(name: str) -> str:
    """Digest of all that a model's numbers follow from: its configuration and, where texts can be long, how they are cut."""
    found = config(name)
    longer = found["text_cfg"].get("context_length", 77) > texts.STEP
    return digest({**found, "texts": texts.STEP} if longer else found)


def image_size(name: str) -> int:
    """Side of the model's square input images in pixels."""
    side = config(name)["vision_cfg"].get("image_size", 224)
    return int(side[0] if isinstance(side, list | tuple) else side)


def is_resnet(name: str) -> bool:
    """Whether the image tower is a ResNet, of open_clip or of timm."""
    vision = config(name)["vision_cfg"]
    return isinstance(vision.get("layers"), list) or "resn" in vision.get("timm_model_name", "")


def create(name: str, seed: int) -> torch.nn.Module:
    """Create a model with random float32 weights, which depend on `name` and `seed` only."""
    config(name)
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        model: torch.nn.Module = open_clip.create_model(name, pretrained=None, precision="fp32", device="cpu")
        return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress open_clip's warning that the weights are random, as they are meant to be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def tokenizer(name: str) -> ModelTokenizer:
    """The tokenizer of a model: a function from n texts to int64 (n, context length), padded with 0."""
    _register_configs()
    return cached_by_word(open_clip.get_tokenizer(name))


def tokenizer_identity(name: str) -> list[Any]:
    """Plain data that identifies the tokenizer of a model."""
    text = config(name)["text_cfg"]
    options = {key: text.get(key) for key in ("context_length", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs")}
    return [open_clip.__version__, name if "siglip" in name.lower() else "", options]


def weights_bytes(model: torch.nn.Module) -> bytes:
    """The float32 weights in safetensors format; `open_clip.create_model(name, pretrained=path)` can load such a file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load weights from a safetensors file."""
    model.load_state_dict(load_file(path))
