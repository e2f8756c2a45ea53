import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.training.checkpoint import Checkpoint, Position


def _checkpoint() -> Checkpoint:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    defense = {
        "mask": torch.tensor([True, False]),
        "deep": {"list": [1, 2.5, "x", None]},
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    return Checkpoint(
        Position(3, 1, 17),
        dict(model.state_dict()),
        optimizer.state_dict(),
        defense,
        {"head.weight": torch.ones(2)},
        [{"epoch": 0, "loss": 0.1}],
        {"steps": 2, "loss": 1 / 3},
        {"load": 1e-9},
    )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "checkpoint.pt"
    saved = _checkpoint()
    saved.save(path)
    found = Checkpoint.load(path)
    assert found is not None
    assert found.position == saved.position
    assert _equal(vars(found) | {"position": 0}, vars(saved) | {"position": 0})
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_none(tmp_path: Path) -> None:
    assert Checkpoint.load(tmp_path / "checkpoint.pt") is None


def test_cut_anywhere_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    _checkpoint().save(path)
    whole = path.read_bytes()
    for length in {*range(0, 80), *range(80, len(whole) - 1, 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert Checkpoint.load(path) is None, length


def test_noise_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 300, 300):
        path.write_bytes(rng.bytes(int(size)))
        assert Checkpoint.load(path) is None
    for size in rng.integers(1, 60, 300):  # looks like a pickle to begin with
        path.write_bytes(b"\x80\x02" + rng.bytes(int(size)))
        assert Checkpoint.load(path) is None


@pytest.mark.parametrize("content", [{}, [], 3, {"position": 1}, {"position": {}}, {"position": {"x": 1}}, torch.ones(2)])
def test_another_content_counts_as_none(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    assert Checkpoint.load(tmp_path / "checkpoint.pt") is None


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", ["torch", "pickle", "field"])
def test_code_in_a_file_does_not_run(tmp_path: Path, protocol: str) -> None:
    path, target = tmp_path / "checkpoint.pt", tmp_path / "ran"
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(_Bomb(target), protocol=2))
    elif protocol == "torch":
        torch.save(_Bomb(target), path)
    else:
        state = vars(_checkpoint()) | {"position": {}, "defense": {"state": _Bomb(target)}}
        torch.save(state, path)
    assert Checkpoint.load(path) is None
    assert not target.exists()
