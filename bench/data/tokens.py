"""Tokens of millions of captions, cached in a memory-mapped file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Tokenize = Callable[[Sequence[str]], torch.Tensor]
Progress = Callable[[int], None]

_FORMAT = 1
_BLOCK = 4096


def cached_tokens(
    captions: Sequence[str], tokenize: Tokenize, identity: Any, folder: Path | None, progress: Progress
) -> NDArray[np.integer]:
    """Tokenise captions, or load their tokens from the cache. A damaged cache file is replaced.

    Parameters
    ----------
    captions : sequence of n str
        The captions.
    tokenize : callable
        The tokenizer.
    identity : Any
        Plain data that changes with the tokenizer.
    folder : Path or None
        The cache; if it is None or cannot be written, tokens are kept in memory.
    progress : callable
        Called with the number of captions done so far.

    Returns
    -------
    uint16 or int32 (n, context length)
        uint16 if every token id of the tokenizer fits. Memory-mapped if cached.
    """
    dtype = np.dtype(np.uint16 if getattr(tokenize, "vocab_size", 2**31) <= 2**16 else np.int32)
    shape = len(captions), tokenize([""]).shape[1]
    file = folder / "tokens" / _name(captions, identity, dtype) if folder else None
    if file is not None:
        with contextlib.suppress(OSError):
            if not _is_complete(file, shape, dtype):
                _write(file, _blocks(captions, tokenize, dtype, progress))
            return np.memmap(file, dtype, "r", shape=shape)
    tokens = np.empty(shape, dtype)
    start = 0
    for block in _blocks(captions, tokenize, dtype, progress):
        tokens[start : start + len(block)] = block
        start += len(block)
    return tokens


def _blocks(
    captions: Sequence[str], tokenize: Tokenize, dtype: np.dtype[Any], progress: Progress
) -> Iterator[NDArray[np.integer]]:
    for start in range(0, len(captions), _BLOCK):
        block = tokenize(captions[start : start + _BLOCK]).numpy().astype(dtype)
        yield block
        progress(start + len(block))


def _name(captions: Sequence[str], identity: Any, dtype: np.dtype[Any]) -> str:
    known = hashlib.sha256(json.dumps([_FORMAT, identity, dtype.str]).encode())
    for start in range(0, len(captions), _BLOCK):
        known.update(json.dumps(captions[start : start + _BLOCK]).encode())
    return f"{known.hexdigest()[:24]}.bin"


def _is_complete(file: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> bool:
    end = shape[0] * shape[1] * dtype.itemsize
    if not file.is_file() or file.stat().st_size != end + hashlib.sha256().digest_size:
        return False
    content = np.memmap(file, np.uint8, "r")
    return hashlib.sha256(content[:end].data).digest() == content[end:].tobytes()


def _write(file: Path, blocks: Iterator[NDArray[np.integer]]) -> None:
    draft = file.with_name(f".{os.getpid()}-{file.name}")
    known = hashlib.sha256()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as out:
            for block in blocks:
                known.update(block.data)
                out.write(block.data)
            out.write(known.digest())
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
