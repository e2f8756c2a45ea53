"""Files of weights from elsewhere: safetensors, or what torch.save wrote. Nothing in them is run."""

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
"""How PyTorch begins to say that a pickle asks for more than weights_only allows."""
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def read(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by the names that open_clip's models have.

    A checkpoint of a training has them under `state_dict` or `model`; DistributedDataParallel puts `module.` before each name,
    torch.compile `_orig_mod.`. Raises UserError, which names the file, for anything else; a pickle that calls a function is
    refused before it does.
    """
    found = _opened(file)
    while (key := next((key for key in _WITHIN if isinstance(found.get(key), Mapping)), None)) is not None:
        found = found[key]
    tensors = {_bare(str(name)): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors or len(tensors) < len(found):
        raise UserError(f"{file}: holds no weights by their names: a state dict is needed, alone or under {', '.join(_WITHIN)}")
    return {name: value for name, value in tensors.items() if name not in _NOT_WEIGHTS}


def load(model: Any, file: Path, name: str) -> None:
    """Give a model of architecture `name` the weights of a file, in the model's own precision.

    Raises UserError where the file cannot be read, or where its weights are not those of the architecture.
    """
    weights = convert_state_dict(model, read(file))
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    own = model.state_dict()
    weights = {key: value for key, value in weights.items() if key in own or not key.endswith("position_ids")}
    for key in ("logit_scale", "logit_bias"):
        if key in weights and key in own:
            weights[key] = weights[key].reshape(own[key].shape)
    strange = sorted(own.keys() ^ weights.keys()) or [key for key in own if own[key].shape != weights[key].shape]
    if strange:
        raise UserError(
            f"{file}: these are not the weights of a {name} ({_difference(strange, own, weights)}); name its --model"
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
        said = str(error).partition("\n")[0][:200]
        if said.startswith(_REFUSED):
            raise UserError(
                f"{file}: holds something else than tensors and plain values, and what a pickle asks to be called is never "
                "called here; save its state dict as safetensors where you trust it"
            ) from None
        raise UserError(f"{file}: cannot be read as weights, safetensors or what torch.save wrote ({said})") from None
    return found if isinstance(found, Mapping) else {}


def _bare(name: str) -> str:
    while prefix := next((each for each in _WRAPPED if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
    return name


def _difference(strange: list[str], own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str:
    first, rest = strange[0], len(strange) - 1
    more = f", and {rest} more differ" if rest else ""
    if first not in weights:
        return f"they lack {first}{more}"
    if first not in own:
        return f"they have {first}, which it lacks{more}"
    return f"{first} has the shape {tuple(weights[first].shape)}, not {tuple(own[first].shape)}{more}"
