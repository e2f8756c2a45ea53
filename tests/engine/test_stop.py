"""A signal during work that is redone from its start ends the run at once; going on then gives the same records."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch

from bench.attacks.badnet import BadNet
from bench.data import tokens
from bench.data.scenes.dataset import RenderedImages
from bench.defenses.clip_filter import CLIPFilter
from bench.defenses.safeclip import SafeCLIP
from bench.errors import Stopped
from bench.evaluators import linear_probe
from bench.evaluators.asr import ASR
from bench.evaluators.zero_shot import ZeroShot
from bench.matrix.local import LocalExecutor
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store, read_json
from bench.matrix.workspace import Workspace
from bench.models.encoder import ClipEncoder
from bench.shutdown import graceful_shutdown, interruptible

from .small import small_matrix
from .training import Recorder

_SECONDS = 2.0

Method = tuple[Any, str]
MOMENTS: dict[str, tuple[signal.Signals, Method, Method]] = {
    "images": (signal.SIGINT, (Workspace, "preload"), (RenderedImages, "load")),
    "tokens": (signal.SIGTERM, (Workspace, "train_tokens"), (tokens, "_blocks")),
    "encoding": (signal.SIGTERM, (ZeroShot, "evaluate"), (ClipEncoder, "encode_image")),
    "a second evaluator": (signal.SIGINT, (linear_probe.LinearProbe, "evaluate"), (linear_probe, "fit")),
    "poison": (signal.SIGTERM, (BadNet, "plan"), (BadNet, "plan")),
    "a model that others are measured against": (signal.SIGINT, (ASR, "evaluate"), (ClipEncoder, "encode_image")),
    "a filter's clean model": (signal.SIGTERM, (CLIPFilter, "select"), (ClipEncoder, "encode_text")),
    "a split": (signal.SIGINT, (SafeCLIP, "after_epoch"), (SafeCLIP, "after_epoch")),
}


def _dawdle(patch: pytest.MonkeyPatch, number: signal.Signals, within: Method, slow: Method) -> list[float]:
    """Let `slow`, when first called within `within`, send this process a signal and wait; when that was."""
    inside: list[str] = []
    sent: list[float] = []
    inner = getattr(*slow)

    def marked(*arguments: Any, **options: Any) -> Any:
        inside.append("")
        try:
            return outer(*arguments, **options)
        finally:
            inside.pop()

    def waiting(*arguments: Any, **options: Any) -> Any:
        if inside and not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
            time.sleep(5 * _SECONDS)
        return inner(*arguments, **options)

    patch.setattr(*slow, waiting)
    outer = getattr(*within)
    patch.setattr(*within, marked)
    return sent


def _run(store: Store) -> None:
    with graceful_shutdown() as stop, interruptible(stop):
        matrix = small_matrix(defenses=["clip", "clip_filter", "safeclip"], evaluators=["zero_shot", "linear_probe", "asr"])
        with graceful_shutdown() as stop:
            recorder = Recorder()
            outcomes = LocalExecutor(matrix, store, Runtime(torch.device("cpu"), recorder, stop), recorder, False).run()
    assert set(outcomes) <= {"done", "cached"}


def _records(store: Store) -> dict[Path, Any]:
    """What was measured and trained, by file, but times."""
    found: dict[Path, Any] = {path: path.read_bytes() for path in store.root.glob("runs/*/model.safetensors")}
    for path in store.root.glob("runs/*/**/*.json"):
        record = read_json(path) or {}
        found[path] = [record.get(name) for name in ("measurements", "examples", "poison", "error")]
    return {path.relative_to(store.root): value for path, value in found.items()}


def test_a_run_that_is_stopped_again_and_again(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    store, whole = Store.create(tmp_path / "out"), Store.create(tmp_path / "whole")
    known: dict[Path, Any] = {}
    for moment, (number, within, slow) in MOMENTS.items():
        with monkeypatch.context() as patch:
            sent = _dawdle(patch, number, within, slow)
            with pytest.raises(Stopped) as stopped:
                _run(store)
        assert sent, moment
        assert time.monotonic() - sent[0] < _SECONDS, moment
        assert stopped.value.number == number
        found = _records(store)
        assert known.items() <= found.items(), moment
        known = found
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    _run(store)
    _run(whole)
    assert known.items() <= _records(store).items()
    assert _records(store) == _records(whole)


class _Noise:
    """Features that no hyperplanes part well, so that a fit takes many iterations."""

    train_images = None
    train_labels = np.arange(1000) % 50

    def image_features(self, images: None) -> torch.Tensor:
        return torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))


def test_a_fit_of_the_linear_probe_ends_within(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    minimize = scipy.optimize.minimize

    def watched(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def counted(*point: Any) -> Any:
            calls.append(len(calls))
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return function(*point)

        return minimize(counted, *args, **options)

    monkeypatch.setattr(scipy.optimize, "minimize", watched)
    with pytest.raises(Stopped), graceful_shutdown() as stop, interruptible(stop):
        linear_probe.fit(_Noise(), _Noise(), linear_probe.LinearProbeParams(c=1e6))  # type: ignore[arg-type]
    assert len(calls) == 3


@pytest.mark.parametrize("alone", [True, False])
def test_a_wish_from_before_is_heeded_unless_others_work_along(alone: bool) -> None:
    done: list[bool] = []

    def work() -> None:
        with graceful_shutdown() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            with interruptible(stop, alone):
                done.append(stop())
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="15"):
        work()
    assert done == ([] if alone else [True])


def test_handlers_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with graceful_shutdown() as stop:
        inner = signal.getsignal(signal.SIGTERM)
        with interruptible(stop):
            assert signal.getsignal(signal.SIGTERM) != inner
        assert signal.getsignal(signal.SIGTERM) == inner
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
