"""A first-in, first-out pool of embeddings with nearest-neighbour look-up."""

from __future__ import annotations

from typing import Any

import torch


class Pool:
    """Holds the `size` most recent embeddings: float32 (size, d), unit rows."""

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self.embeddings = torch.zeros(size, dim, device=device)
        self._next = 0
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @torch.no_grad()
    def push(self, embeddings: torch.Tensor) -> None:
        """Put embeddings (n, d) in, in place of the oldest. Of more than fit, the last remain."""
        size = len(self.embeddings)
        new = embeddings.detach()[-size:]
        places = (self._next + torch.arange(len(new), device=new.device)) % size
        self.embeddings[places] = new
        self._next = int((self._next + len(new)) % size)
        self._held = min(size, self._held + len(new))

    @torch.no_grad()
    def nearest(self, queries: torch.Tensor) -> torch.Tensor:
        """The held embedding nearest to each unit query (n, d) in Euclidean distance, which is the one of largest product.

        Raises LookupError when the pool is empty.
        """
        if not self._held:
            raise LookupError("the pool is empty")
        held = self.embeddings[: self._held]
        return held[(queries.detach() @ held.T).argmax(dim=1)]

    def state_dict(self) -> dict[str, Any]:
        return {"embeddings": self.embeddings, "next": self._next, "held": self._held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.embeddings.copy_(state["embeddings"])
        self._next, self._held = int(state["next"]), int(state["held"])
