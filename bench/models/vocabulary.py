"""Train only the token embeddings that occur in the captions.

An optimiser updates all 49,408 rows of the embedding table in every step, whether they are used or not; for a small model this
takes longer than its layers. Unused rows keep their initial values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class CompactVocabulary:
    """Reduces a model's token embedding to the tokens in use, and restores it after training.

    The order of tokens is kept, since open_clip takes the largest token as the end of a text. Text towers that are not
    open_clip's own are left unchanged.

    Parameters
    ----------
    model : nn.Module
        An open_clip model.
    tokens : int64, any shape
        All tokens that occur in training.
    """

    def __init__(self, model: Any, tokens: torch.Tensor) -> None:
        self._owner = model.text if hasattr(model, "text") else model
        self._full: nn.Embedding | None = getattr(self._owner, "token_embedding", None)
        if self._full is None:
            return
        self._used = torch.unique(torch.cat([tokens.flatten(), torch.zeros(1, dtype=torch.int64)]))
        self._row = torch.full((self._full.num_embeddings,), -1, dtype=torch.int64)
        self._row[self._used] = torch.arange(len(self._used))
        rows = self._full.weight.detach()[self._used]
        self._owner.token_embedding = nn.Embedding(len(rows), rows.shape[1], _weight=rows)

    def compact(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens to rows of the reduced table: int64, in the shape of `tokens`."""
        return tokens if self._full is None else self._row[tokens]

    def restore(self) -> None:
        """Restore the full table, with the trained rows in it."""
        if self._full is None:
            return
        trained = self._owner.token_embedding.weight.detach()
        self._full.to(trained.device)
        with torch.no_grad():
            self._full.weight[self._used] = trained
        self._owner.token_embedding = self._full

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The full table, with the trained rows in it, within the context alone: for texts that training does not have."""
        reduced = getattr(self._owner, "token_embedding", None)
        self.restore()
        try:
            yield
        finally:
            if self._full is not None:
                self._owner.token_embedding = reduced
