"""Training with only the token embeddings that the captions use.

An optimiser touches every row of the 49,408-row table at every step, used or not; a small model spends more time there
than in its layers. Unused rows keep their initial values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class CompactVocabulary:
    """Shrinks a model's token embedding to the rows in use, and puts it back whole.

    `tokens`, int64 of any shape, are all that will be encoded in training. Token order is kept, since open_clip finds the end
    of a text as its largest token. Text towers that are not open_clip's own are left as they are.
    """

    def __init__(self, model: Any, tokens: torch.Tensor) -> None:
        self._owner = model.text if hasattr(model, "text") else model
        self._full: nn.Embedding | None = getattr(self._owner, "token_embedding", None)
        if self._full is None:
            return
        self._used = torch.unique(torch.cat([tokens.flatten(), torch.zeros(1, dtype=torch.int64)]))
        self._row = torch.full((self._full.num_embeddings,), -1, dtype=torch.int64)
        self._row[self._used] = torch.arange(len(self._used))
        self._owner.token_embedding = nn.Embedding.from_pretrained(self._full.weight.detach()[self._used], freeze=False)

    def compact(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows of the small table; int64, the shape of `tokens`."""
        return tokens if self._full is None else self._row[tokens]

    def restore(self) -> None:
        """Give the model its full table back, with the trained rows in it."""
        if self._full is None:
            return
        trained = self._owner.token_embedding.weight.detach()
        self._full.to(trained.device)
        with torch.no_grad():
            self._full.weight[self._used] = trained
        self._owner.token_embedding = self._full
