"""A first-in, first-out pool of embeddings with nearest-neighbour look-up."""

from __future__ import annotations

from typing import Any

import torch


class Pool:
    """Holds the `size` most recent embeddings, float32 (size, d), unit rows, and the pair each is of, int64 (size,)."""

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self.embeddings = torch.zeros(size, dim, device=device)
        self.pairs = torch.full((size,), -1, device=device)
        self._next = 0
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @torch.no_grad()
    def push(self, embeddings: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Put embeddings (n, d) of `pairs` (n,) in, in place of the oldest, past the end from the start: their places.

        Of more than fit, the last remain.
        """
        size = len(self.embeddings)
        new = embeddings.detach()[-size:]
        places = (self._next + torch.arange(len(new), device=new.device)) % size
        self.embeddings[places] = new
        self.pairs[places] = pairs[-size:]
        self._next = int((self._next + len(new)) % size)
        self._held = min(size, self._held + len(new))
        return places

    @torch.no_grad()
    def nearest(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The held embedding nearest to each unit query (n, d) in Euclidean distance, which is the one of largest product.

        With it comes the pair that it is of, int64 (n,). Raises LookupError when the pool is empty.
        """
        if not self._held:
            raise LookupError("the pool is empty")
        held = self.embeddings[: self._held]
        found = (queries.detach() @ held.T).argmax(dim=1)
        return held[found], self.pairs[found]

    def state_dict(self) -> dict[str, Any]:
        return {"embeddings": self.embeddings, "pairs": self.pairs, "next": self._next, "held": self._held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.embeddings.copy_(state["embeddings"])
        self.pairs.copy_(state["pairs"])
        self._next, self._held = int(state["next"]), int(state["held"])
