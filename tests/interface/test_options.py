"""The options of a run are the same in Python, on the command line and in a file."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import numpy as np
import pytest

import bench
from bench.cli import main
from bench.cli.run_command import command
from bench.interface.options import RunOptions


def _of_command_line() -> dict[str, object]:
    return {str(option.name): option for option in command.params if isinstance(option, click.Option)}


def test_python_the_command_line_and_files_have_the_same_options() -> None:
    in_python = [name for name in inspect.signature(bench.run).parameters if name != "quiet"]
    assert in_python == list(RunOptions.model_fields)
    assert sorted(_of_command_line()) == sorted([*RunOptions.model_fields, "config"])


def test_and_the_same_defaults() -> None:
    own = RunOptions()
    assert (
        RunOptions.of({name: p.default for name, p in inspect.signature(bench.run).parameters.items() if name != "quiet"})
        == own
    )
    shown = command.make_context("run", []).params
    assert RunOptions.of({name: value for name, value in shown.items() if name != "config"}) == own


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"attack": "badnet,tdpa"}, {"attack": ["badnet", "tdpa"]}),
        ({"attack": ("badnet", "badnet", " tdpa")}, {"attack": "badnet,tdpa"}),
        ({"seeds": 3}, {"seeds": "3"}),
        ({"seeds": range(3)}, {"seeds": ["0,1", "2"]}),
        ({"seeds": np.arange(2)}, {"seeds": [0, 1]}),
        ({"jobs": 2}, {"jobs": "2"}),
        ({"set": {"train": {"epochs": 2}}}, {"set": "train.epochs=2"}),
        (
            {"set": {"train.epochs": 2, "attack": {"badnet": {"rate": 0.5}}}},
            {"set": ["train.epochs=2", "attack.badnet.rate=0.5"]},
        ),
        ({"set": {"train": {"lr": np.float64(0.5)}}}, {"set": ["train.lr=0.5"]}),
        ({"plugin": Path("mine.py")}, {"plugin": ["mine.py"]}),
    ],
)
def test_ways_to_say_the_same(given: dict[str, object], same: dict[str, object]) -> None:
    assert RunOptions.of(given) == RunOptions.of(same)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"atack": "badnet"}, "atack: unknown option; did you mean 'attack'?"),
        ({"attack": 3}, "3: expected a name or a list of names"),
        ({"seeds": 1.5}, "--seeds 1.5: expected integers"),
        ({"seeds": [True]}, "--seeds True: expected integers"),
        ({"seeds": []}, "--seeds is empty"),
        ({"set": {"train": {"epochs": None}}}, "None: expected a string, number, boolean, list or table"),
        ({"jobs": True}, "--jobs: Input should be a valid string"),
        ({"set": [3]}, "--set [3]: expected PATH=VALUE"),
        ({"checkpoint_minutes": -1}, "--checkpoint-minutes: Input should be greater than or equal to 0, got -1"),
        ({"recipe": {"trian": {}}}, "--recipe inline: unknown section 'trian'; did you mean 'train'?"),
    ],
)
def test_bad_values(given: dict[str, object], words: str) -> None:
    with pytest.raises(bench.UserError) as raised:
        RunOptions.of(given)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_words_are_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a record says of its command gives the same options again."""
    asked = RunOptions.of(
        {
            "attack": "badnet",
            "seeds": [1, 2],
            "set": ["train.epochs=2", "a.b=x"],
            "jobs": 2,
            "controls": True,
            "checkpoint_minutes": 1.5,
            "out": "o",
        }
    )
    heard = {}
    monkeypatch.setattr(bench, "run", lambda **given: heard.update(given) or bench.Results(Path(), (), {}), raising=False)
    with pytest.raises(SystemExit) as ended:
        main(list(asked.command_line()))
    assert ended.value.code == 0
    assert RunOptions.of(heard) == asked
    assert set(heard) == {"attack", "seeds", "set", "jobs", "controls", "checkpoint_minutes", "out"}
