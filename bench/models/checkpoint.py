"""Weights from safetensors or torch.save files. Pickled code is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load_file

from bench.errors import UserError

_WITHIN = ("state_dict", "model_state_dict", "model")
_WRAPPED = ("module.", "_orig_mod.")
_REFUSED = "Weights only load failed"
"""The start of PyTorch's message when a pickle needs more than weights_only allows."""
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def read(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by their names in open_clip's models.

    The state dict may be nested under one of `_WITHIN`, and its names prefixed by DistributedDataParallel or torch.compile.
    Raises UserError for anything else; a pickle that calls a function is refused before it is called.
    """
    found = _opened(file)
    while (key := next((key for key in _WITHIN if isinstance(found.get(key), Mapping)), None)) is not None:
        found = found[key]
    tensors = {_bare(str(name)): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors or len(tensors) < len(found):
        raise UserError(f"{file}: no weights found; expected a state dict, alone or under {', '.join(_WITHIN)}")
    return {name: value for name, value in tensors.items() if name not in _NOT_WEIGHTS}


def load(model: Any, file: Path, name: str) -> None:
    """Load the weights of a file into a model of architecture `name`, in the model's precision.

    Raises UserError if the file cannot be read, or its weights do not fit the architecture.
    """
    weights = convert_state_dict(model, read(file))
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    own = model.state_dict()
    weights = {key: value for key, value in weights.items() if key in own or not key.endswith("position_ids")}
    for key in ("logit_scale", "logit_bias"):
        if key in weights and key in own:
            weights[key] = weights[key].reshape(own[key].shape)
    mismatched = sorted(own.keys() ^ weights.keys()) or [key for key in own if own[key].shape != weights[key].shape]
    if mismatched:
        raise UserError(
            f"{file}: not the weights of {name} ({_difference(mismatched, own, weights)}); set --model to its architecture"
        )
    model.load_state_dict(weights)


def _opened(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes fail in many ways
        message = str(error).partition("\n")[0][:200]
        if message.startswith(_REFUSED):
            raise UserError(
                f"{file}: contains pickled code, which is never run; if you trust it, save its state dict as safetensors"
            ) from None
        raise UserError(f"{file}: cannot be read as safetensors or as a file of torch.save ({message})") from None
    return found if isinstance(found, Mapping) else {}


def _bare(name: str) -> str:
    while prefix := next((each for each in _WRAPPED if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
    return name


def _difference(mismatched: list[str], own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str:
    first, rest = mismatched[0], len(mismatched) - 1
    more = f", and {rest} more differ" if rest else ""
    if first not in weights:
        return f"{first} is missing{more}"
    if first not in own:
        return f"{first} is unexpected{more}"
    return f"{first} has the shape {tuple(weights[first].shape)}, not {tuple(own[first].shape)}{more}"
