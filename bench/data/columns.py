"""Columns of millions of values without an object for each."""

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
    """Values that are made when they are asked for; a slice gives a list of them."""

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
    """UTF-8 texts in one buffer of bytes: text i lies at starts[i]:ends[i]. It is decoded when asked for, and what is not
    UTF-8 replaced.

    buffer: uint8 (bytes,); starts, ends: int64 (n,), in bytes.
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
        """int64 (n,), in bytes."""
        return self._ends - self._starts

    def digest(self) -> bytes:
        """sha256 of the buffer and the places."""
        known = hashlib.sha256(self._buffer.data)
        known.update(np.ascontiguousarray(self._starts).data)
        known.update(np.ascontiguousarray(self._ends).data)
        return known.digest()

    def encoded(self) -> Iterator[bytes]:
        """Each text, undecoded."""
        buffer = self._buffer.data
        for block in range(0, len(self), _BLOCK):
            rows = slice(block, block + _BLOCK)
            for start, end in zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True):
                yield bytes(buffer[start:end])

    def __iter__(self) -> Iterator[str]:
        return (text.decode(errors="replace") for text in self.encoded())

    def select(self, rows: NDArray[np.int64] | slice) -> Texts:
        """The texts at `rows`, int64 (n,), sharing the buffer."""
        return Texts(self._buffer, self._starts[rows], self._ends[rows])


class TextsMaker:
    """Collects texts one after the other."""

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

    def _at(self, row: int) -> str:
        return f"{self._prefix}/{self._folders[self._folder_of[row]]}/{self._names[row].decode()}"
