"""Estimates for --dry-run: training time from past runs or a few measured steps, disk space from model sizes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import torch

from bench.config import RunSpec
from bench.matrix.device import synchronize
from bench.matrix.expand import Matrix
from bench.matrix.store import Store
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.training.memory import MEMORY_HINT, free_bytes, require_memory, step_bytes
from bench.training.optimizer import adamw
from bench.training.ranks import world_size

_STEPS = 3
_FEW_PAIRS = 8
_LONG_SECONDS = 1.0


def training_seconds(matrix: Matrix, todo: list[RunSpec], store: Store | None, device: torch.device) -> float:
    """Seconds of training of the cells in `todo`, at the recorded speed of their defense, else the measured one of CLIP."""
    if not todo:
        return 0.0
    rates = _recorded_rates(matrix, store)
    measured = None
    seconds = 0.0
    for spec in todo:
        rate = rates.get(spec.defense.name)
        if rate is None:
            measured = measured or _measured_rate(spec, device)
            rate = measured
        seconds += len(matrix.workspace.bundle.train) * spec.train.epochs / rate
    return seconds


def weights_bytes(todo: list[RunSpec]) -> int:
    """Bytes of the float32 weights of the cells in `todo`."""
    counts = Counter(spec.model.name for spec in todo)
    return sum(count * 4 * _parameters(name) for name, count in counts.items())


def _parameters(model: str) -> int:
    return sum(value.numel() for value in factory.create(model, 0).state_dict().values())


def _recorded_rates(matrix: Matrix, store: Store | None) -> dict[str, float]:
    rates = {}
    for cell in matrix.cells:
        record = store.run_record(cell.key) if store else None
        if record and record.timing.pairs_per_second:
            rates[cell.spec.defense.name] = record.timing.pairs_per_second
    return rates


def lacking_memory(matrix: Matrix, todo: Iterable[RunSpec], device: torch.device) -> list[str]:
    """A message for each kind of cell in `todo` for whose steps memory is not enough."""
    found = []
    for spec in {(spec.model.name, spec.train.batch_size, spec.train.precision): spec for spec in todo}.values():
        encoder = ClipEncoder(factory.create(spec.model.name, 0), spec.train.precision, device)
        share = -(-min(spec.train.batch_size, len(matrix.workspace.bundle.train)) // world_size())
        try:
            require_memory(encoder, factory.image_size(spec.model.name), share)
        except MemoryError as error:
            found.append(f"{spec.model.name}: {error}; {MEMORY_HINT}")
    return found


def _measured_rate(spec: RunSpec, device: torch.device) -> float:
    """Pairs per second of forward, backward and optimiser on random pairs, without loading.

    The batch size doubles up to the recipe's, or until a step takes long or a larger batch does not fit in memory.
    """
    encoder = ClipEncoder(factory.create(spec.model.name, 0), spec.train.precision, device)
    optimizer = adamw([encoder], spec.train)
    name, most = spec.model.name, spec.train.batch_size
    size = min(_FEW_PAIRS, most)
    seconds = _step_seconds(encoder, optimizer, name, size)
    while size < most and 2 * seconds < _LONG_SECONDS:
        larger = min(2 * size, most)
        if step_bytes(encoder, factory.image_size(name), larger) > free_bytes(device):
            break
        size, seconds = larger, _step_seconds(encoder, optimizer, name, larger)
    return size / seconds


def _step_seconds(encoder: ClipEncoder, optimizer: torch.optim.Optimizer, model: str, size: int) -> float:
    side, device = factory.image_size(model), encoder.device
    tokens = encoder.cut(factory.tokenizer(model)(["a picture of a thing"])).expand(size, -1).to(device)
    images = torch.rand(size, 3, side, side, device=device)
    started = time.perf_counter()
    for step in range(_STEPS):
        if step == 1:
            synchronize(device)
            started = time.perf_counter()
        similarities = encoder.encode_image(images) @ encoder.encode_text(tokens).T
        (encoder.logit_scale * similarities).logsumexp(dim=1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronize(device)
    return (time.perf_counter() - started) / (_STEPS - 1)
