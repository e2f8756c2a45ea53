"""Parts and counterfactuals of captions, as tokens of open_clip: int64 (n, length).

A row is a start token, the words, an end token, which is the largest of the row, and zeros. Random numbers come from torch's
global generator, which the engine seeds at every step.
"""

from __future__ import annotations

import torch


def subtexts(tokens: torch.Tensor) -> torch.Tensor:
    """A random run of half of each caption's words, rounded up."""
    end = tokens.argmax(dim=1, keepdim=True)
    words = end - 1
    kept = (words + 1) // 2
    first = 1 + _below(words - kept + 1)
    place = torch.arange(tokens.shape[1], device=tokens.device)[None]
    source = torch.where(place == 0, 0, torch.where(place <= kept, first + place - 1, end))
    return torch.where(place <= kept + 1, tokens.gather(1, source), 0)


def counterfactuals(tokens: torch.Tensor, share: float) -> torch.Tensor:
    """Captions with about `share` of their words, chosen at random, replaced by words of the previous caption."""
    end = tokens.argmax(dim=1, keepdim=True)
    place = torch.arange(tokens.shape[1], device=tokens.device)[None]
    others = tokens.roll(1, dims=0)
    foreign = others.gather(1, 1 + _below((end.roll(1, dims=0) - 1).clamp(min=1).expand_as(tokens)))
    replaced = (torch.rand(tokens.shape, device=tokens.device) < share) & (place > 0) & (place < end)
    return torch.where(replaced, foreign, tokens)


def _below(limits: torch.Tensor) -> torch.Tensor:
    """Random integers below each limit."""
    return (torch.rand(limits.shape, device=limits.device) * limits).long()
