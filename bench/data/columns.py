"""Columns of millions of texts without an object for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Texts(Sequence[str]):
    """UTF-8 texts in one buffer of bytes: text i lies at starts[i]:ends[i]. It is decoded when asked for.

    buffer: uint8 (bytes,); starts, ends: int64 (n,), in bytes.
    """

    def __init__(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._buffer = buffer
        self._starts = starts
        self._ends = ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[place] for place in range(len(self))[row]]
        return self._buffer[self._starts[row] : self._ends[row]].tobytes().decode()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (n,), in bytes."""
        return self._ends - self._starts

    def digest(self) -> bytes:
        """sha256 of the buffer and the places."""
        known = hashlib.sha256(self._buffer.data)
        known.update(np.ascontiguousarray(self._starts).data)
        known.update(np.ascontiguousarray(self._ends).data)
        return known.digest()

    def select(self, rows: NDArray[np.int64] | slice) -> Texts:
        """The texts at `rows`, int64 (n,), sharing the buffer."""
        return Texts(self._buffer, self._starts[rows], self._ends[rows])


class Paths(Sequence[str]):
    """`PREFIX/FOLDER/NAME`: folders by number, names as ASCII bytes of one width.

    folder_of: int32 (n,), indices into `folders`; names: bytes (n,), numpy kind S.
    """

    def __init__(self, prefix: str, folders: Sequence[str], folder_of: NDArray[np.int32], names: NDArray[np.bytes_]) -> None:
        self._prefix = prefix
        self._folders = folders
        self._folder_of = folder_of
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[place] for place in range(len(self))[row]]
        return f"{self._prefix}/{self._folders[self._folder_of[row]]}/{self._names[row].decode()}"
