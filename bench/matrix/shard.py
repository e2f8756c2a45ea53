"""A shard: the part of a matrix that one of several processes runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import UserError
from bench.matrix.expand import Matrix


@dataclass(frozen=True)
class Shard:
    """Shard `number`, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n". Raises UserError for anything else."""
        parts = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
            raise UserError(f"--shard {text}: expected i/n with i from 1 to n, for example --shard 1/4")
        return cls(int(parts[1]), int(parts[2]))

    def of(self, matrices: Sequence[Matrix]) -> list[Matrix]:
        """The cells of this shard, each with its dependencies.

        A shard is a contiguous range, since neighbouring cells share poison and dependencies, and every cell is in one range.
        A dependency of several shards is run by whichever comes first.
        """
        total = sum(len(matrix.cells) for matrix in matrices)
        first, last = ((self.number - step) * total // self.count for step in (1, 0))
        found, offset = [], 0
        for matrix in matrices:
            own = matrix.cells[max(first - offset, 0) : max(last - offset, 0)]
            offset += len(matrix.cells)
            if own:
                found.append(matrix.restricted_to(own))
        return found
