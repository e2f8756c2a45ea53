import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli import main

SIZES = ("data.train=256", "data.holdout=64", "data.test=64", "data.probe_train=64")
SMALL = tuple(part for option in (*SIZES, "train.epochs=1", "train.batch_size=64") for part in ("--set", option))
START = "import sys; from bench.cli import main; main(sys.argv[1:])"
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


Bench = Callable[..., Finished]


@pytest.fixture
def bench(registries: None, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Finished(int(ended.value.code or 0), said.out, said.err)

    return run


def started(*arguments: object, start: str = START, **environment: object) -> subprocess.Popen[str]:
    """A command line in a process of its own."""
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(out: Path) -> list[dict[str, str]]:
    """The rows of results.csv."""
    with (out / "report" / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


PLUGIN = '''
"""Plain CLIP that leaves a trace."""
import math, os, time
from pathlib import Path
from bench.registry import register_defense
from bench.defenses.clip import CLIP

@register_defense("traced")
class Traced(CLIP):
    """Plain CLIP: notes that it was made, may wait after each step, may fail."""

    def __init__(self, params, setup):
        super().__init__(params, setup)
        self.steps = 0
        self._note("made")

    def _note(self, word):
        if "TRACE" in os.environ:
            with open(os.environ["TRACE"], "a") as stream:
                stream.write(word + "\\n")

    def loss(self, batch, encoder, phase):
        self.steps += 1
        self._note(f"step {self.steps}")
        time.sleep(float(os.environ.get("WAIT", "0")))
        loss = super().loss(batch, encoder, phase)
        return loss * math.nan if "DOOM" in os.environ else loss
'''


@pytest.fixture
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin file with the defense `traced`, which environment variables govern."""
    file = tmp_path_factory.mktemp("plugin") / "traced.py"
    file.write_text(PLUGIN)
    return file
