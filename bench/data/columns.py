"""Sequences of millions of values without a Python object for each."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")

_BLOCK = 4096


class Column(Sequence[Value]):
    """A sequence whose values are created on access; a slice is a list."""

    @abstractmethod
    def _at(self, row: int) -> Value: ...

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> list[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | list[Value]:
        return [self._at(each) for each in range(len(self))[row]] if isinstance(row, slice) else self._at(row)

    def __iter__(self) -> Iterator[Value]:
        return map(self._at, range(len(self)))


class Texts(Column[str]):
    """Strings in one buffer of UTF-8, decoded on access; invalid bytes are replaced.

    Parameters
    ----------
    buffer : uint8 (m,)
        The encoded strings.
    starts, ends : int64 (n,)
        String i is `buffer[starts[i]:ends[i]]`.
    """

    def __init__(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._buffer = buffer
        self._starts = starts
        self._ends = ends

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of all, one after the other."""
        begins = np.cumsum([0, *(len(each._buffer) for each in parts)])[:-1]
        starts = [each._starts + begin for each, begin in zip(parts, begins, strict=True)]
        ends = [each._ends + begin for each, begin in zip(parts, begins, strict=True)]
        return cls(np.concatenate([each._buffer for each in parts]), np.concatenate(starts), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self._starts)

    def _at(self, row: int) -> str:
        return self._buffer[self._starts[row] : self._ends[row]].tobytes().decode(errors="replace")

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each string in bytes: int64 (n,)."""
        return self._ends - self._starts

    def digest(self) -> bytes:
        """sha256 of the buffer and the bounds."""
        known = hashlib.sha256(self._buffer.data)
        known.update(np.ascontiguousarray(self._starts).data)
        known.update(np.ascontiguousarray(self._ends).data)
        return known.digest()

    def encoded(self) -> Iterator[bytes]:
        """Yield each string as bytes, without decoding."""
        buffer = self._buffer.data
        for block in range(0, len(self), _BLOCK):
            rows = slice(block, block + _BLOCK)
            for start, end in zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True):
                yield bytes(buffer[start:end])

    def __iter__(self) -> Iterator[str]:
        return (text.decode(errors="replace") for text in self.encoded())

    def select(self, rows: NDArray[np.int64] | slice) -> Texts:
        """The strings at `rows`, int64 (k,), in the same buffer."""
        return Texts(self._buffer, self._starts[rows], self._ends[rows])


class TextsBuilder:
    """Builds a `Texts` string by string."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ends = array("q")

    def append(self, text: str) -> None:
        self._buffer += text.encode(errors="replace")
        self._ends.append(len(self._buffer))

    def texts(self) -> Texts:
        ends = np.frombuffer(self._ends, dtype=np.int64)
        starts = np.concatenate((np.zeros(1, dtype=np.int64), ends))[:-1]
        return Texts(np.frombuffer(self._buffer, dtype=np.uint8), starts, ends)


class Paths(Column[str]):
    """Paths `PREFIX/FOLDER/NAME`.

    Parameters
    ----------
    prefix : str
        The same for all.
    folders : sequence of str
        The distinct folders.
    folder_of : int32 (n,)
        Indices into `folders`.
    names : bytes (n,)
        UTF-8 file names, of NumPy's kind S.
    """

    def __init__(self, prefix: str, folders: Sequence[str], folder_of: NDArray[np.int32], names: NDArray[np.bytes_]) -> None:
        self._prefix = prefix
        self._folders = folders
        self._folder_of = folder_of
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def _at(self, row: int) -> str:
        return f"{self._prefix}/{self._folders[self._folder_of[row]]}/{self._names[row].decode()}"
