"""Cells on their way to workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.matrix.expand import Cell, Matrix, with_needed
from bench.matrix.workspace import Source


@dataclass(frozen=True)
class Errand:
    """A cell on its way to a worker, not to be sent before a monotonic time; `cells` are those that it needs and itself."""

    source: Source
    cells: tuple[Cell, ...]
    not_before: float = 0.0

    @property
    def cell(self) -> Cell:
        return self.cells[-1]


def errands(matrix: Matrix) -> Iterator[Errand]:
    source = matrix.workspace.source.absolute()
    known = {cell.key: cell for cell in matrix.cells}
    for cell in matrix.cells:
        yield Errand(source, tuple(with_needed(cell, known)))
