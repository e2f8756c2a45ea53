"""A first-in, first-out pool of embeddings with nearest-neighbour lookup."""

from __future__ import annotations

from typing import Any

import torch


class Pool:
    """The most recent embeddings, with the pair that each belongs to.

    Parameters
    ----------
    size : int
        Capacity.
    dim : int
        Width of the embeddings.
    device : torch.device
        Where they are stored.

    Attributes
    ----------
    embeddings : float32 (size, dim)
        Unit-length rows, in no particular order.
    pairs : int64 (size,)
        The pair of each embedding; -1 if the slot is empty.
    """

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self.embeddings = torch.zeros(size, dim, device=device)
        self.pairs = torch.full((size,), -1, device=device)
        self._next = 0
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @torch.no_grad()
    def push(self, embeddings: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Replace the oldest entries by embeddings (n, d) of `pairs` (n,) and return their slots, int64 (n,).

        If n exceeds the size, the last ones are kept.
        """
        size = len(self.embeddings)
        new = embeddings.detach()[-size:]
        slots = (self._next + torch.arange(len(new), device=new.device)) % size
        self.embeddings[slots] = new
        self.pairs[slots] = pairs[-size:]
        self._next = int((self._next + len(new)) % size)
        self._held = min(size, self._held + len(new))
        return slots

    @torch.no_grad()
    def nearest(self, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest embedding to each query in Euclidean distance, that is, of largest cosine similarity.

        Parameters
        ----------
        queries : float (n, d)
            Unit-length rows.

        Returns
        -------
        embeddings : float32 (n, d)
        pairs : int64 (n,)
            The pair that each embedding belongs to.

        Raises
        ------
        LookupError
            If the pool is empty.
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
