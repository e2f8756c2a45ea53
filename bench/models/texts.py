"""Texts without the padding behind the longest of a batch, where a text's embedding does not depend on it.

In open_clip's own text tower each token sees only those before it, and the embedding is that of the end token, the largest of
its row. Captions of a dozen words fill a fifth of the 77 tokens that CLIP reads.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from open_clip.model import CLIP
from open_clip.transformer import text_global_pool

STEP = 16
"""Lengths are its multiples, so kernels meet few shapes. On the CPUs tried, embeddings then are equal to the last bit."""


def cut(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens, int64 (n, length), up to the next multiple of `STEP` behind the longest text; unchanged for another tower.

    They must be on the CPU: a GPU would wait for their lengths.
    """
    if not _is_causal(model) or tokens.shape[1] <= STEP or not len(tokens):
        return tokens
    longest = int(tokens.argmax(dim=1).max()) + 1
    return tokens[:, : -(-longest // STEP) * STEP]


def encode(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The model's `encode_text`, also for tokens that were cut: (n, d), not normalised."""
    length = tokens.shape[1]
    if not _is_causal(model) or length == model.context_length:
        return cast("torch.Tensor", model.encode_text(tokens))
    dtype = model.transformer.get_cast_dtype()
    states = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    pooled = text_global_pool(states, tokens, model.text_pool_type)
    projection = model.text_projection
    return cast("torch.Tensor", projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection)


def words(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Which tokens belong to a text, bool (n, length). The exclamation mark in `!;` has the number of the padding."""
    if not _is_causal(model):
        return tokens != 0
    return torch.arange(tokens.shape[1], device=tokens.device) <= tokens.argmax(dim=1, keepdim=True)


def _is_causal(model: Any) -> bool:
    return isinstance(model, CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
