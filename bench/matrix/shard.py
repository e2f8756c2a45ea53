"""The part of a matrix that one process of several does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import UserError
from bench.matrix.expand import Matrix


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n". Raises UserError for anything else."""
        parts = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
            raise UserError(f"--shard {text}: write it as i/n with i from 1 to n, for example --shard 1/4")
        return cls(int(parts[1]), int(parts[2]))

    def of(self, matrices: Sequence[Matrix]) -> list[Matrix]:
        """A run of neighbouring cells, since these share poison and the cells they build on, and whatever those need.

        Every cell is in the run of exactly one shard; what several shards need is done by the first to come.
        """
        total = sum(len(matrix.cells) for matrix in matrices)
        first, last = ((self.number - step) * total // self.count for step in (1, 0))
        found, offset = [], 0
        for matrix in matrices:
            own = matrix.cells[max(first - offset, 0) : max(last - offset, 0)]
            offset += len(matrix.cells)
            if own:
                found.append(matrix.only(own))
        return found
