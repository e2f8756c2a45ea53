import time
from pathlib import Path

import pytest

from .crashes import differences, kills, run

TINY = ("data.train=192", "data.holdout=32", "data.test=32", "data.probe_train=32", "train.batch_size=64")
EPOCHS = {"clip": "train.epochs=3", "safeclip": "train.epochs=3", "cleanclip": "train.epochs=2"}
ATTACK = {"clip": "none", "safeclip": "badnet", "cleanclip": "badnet"}
POISON = {"none": (), "badnet": ("attack.rate=0.05",)}
CELLS = {"clip": 1, "safeclip": 1, "cleanclip": 2}
DEFENSE: dict[str, tuple[str, ...]] = {
    "clip": (),
    "safeclip": ("defense.pool=48",),
    "cleanclip": ("defense.epochs=2", "defense.clean=0.5", "defense.batch_size=32"),
}


def _arguments(defense: str) -> list[str]:
    options = [
        part for option in (*TINY, EPOCHS[defense], *DEFENSE[defense], *POISON[ATTACK[defense]]) for part in ("--set", option)
    ]
    chosen = ["--defense", defense, "--attack", ATTACK[defense], "--evaluator", "zero_shot", "--checkpoint-minutes", "0"]
    return ["run", *options, *chosen]


def _endure(defense: str, tmp_path: Path, count: int, seed: int) -> None:
    arguments = _arguments(defense)
    whole = tmp_path / "whole"
    started = time.monotonic()
    killed, span = run([*arguments, "--out", str(whole)], tmp_path / "log")
    assert not killed
    assert len(list(whole.glob("runs/*/model.safetensors"))) == CELLS[defense]
    for number, kill in enumerate(kills(arguments, whole, tmp_path, count, seed, span), start=1):
        print(f"{defense} kill {number} after {kill.seconds:.2f} s of {span:.2f} s: {kill.found}")
    print(f"{defense}: {count} kills, 0 differences, {time.monotonic() - started:.0f} s")


def test_killed_and_resumed(tmp_path: Path) -> None:
    _endure("safeclip", tmp_path, count=3, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("defense", ["clip", "safeclip", "cleanclip"])
def test_killed_often_and_resumed(defense: str, tmp_path: Path) -> None:
    _endure(defense, tmp_path, count=30, seed=1)


def test_differences_are_seen(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, loss, seconds in ((one, 1.5, 3), (other, 1.25, 4)):
        (folder / "runs" / "k").mkdir(parents=True)
        (folder / "runs/k/run.json").write_text(f'{{"curves": [{{"loss": {loss}, "seconds": {seconds}}}]}}')
        (folder / "runs/k/poison.json").write_text(f'{{"timing": {seconds}}}')
        (folder / "runs/k/model.safetensors").write_bytes(b"%d" % seconds)
    assert differences(one, other) == ["runs/k/model.safetensors", "runs/k/run.json"]
