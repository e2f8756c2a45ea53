import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import main
from bench.submission.pack import submit

SIZES = ("data.train=256", "data.holdout=64", "data.test=64", "data.probe_train=64", "train.epochs=1", "train.batch_size=64")
SMALL = tuple(part for option in SIZES for part in ("--set", option))
REPOSITORY = Path(__file__).parents[2]
ACCEPTED, REFUSED = 0, 2
Verify = Callable[..., tuple[int, str]]

PLUGIN = '''
"""Plain CLIP with a smaller loss; says when it is imported."""
import os
from pathlib import Path
from bench.registry import register_defense
from bench.defenses.clip import CLIP

if "WITNESS" in os.environ:
    Path(os.environ["WITNESS"]).touch()

@register_defense("damped")
class Damped(CLIP):
    """Plain CLIP with nine tenths of the loss."""

    def loss(self, batch, encoder, phase):
        return super().loss(batch, encoder, phase) * 0.9
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "damped.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> Path:
    """A tiny matrix: clip without attack, clip and a plugin against badnet, one seed."""
    out = tmp_path_factory.mktemp("submitted") / "results"
    command = [
        "run",
        *SMALL,
        "--attack",
        "badnet",
        "--defense",
        "clip,damped",
        "--evaluator",
        "asr,zero_shot",
    ]
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "bench", *command, "--jobs", "1", "--plugin", str(plugin), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def weighed(results: Path, plugin: Path) -> Path:
    """Its archive, with weights."""
    to = results.parent / "weighed.zip"
    submit(results, to, weights=True, plugins=[plugin])
    return to


@pytest.fixture(scope="session")
def light(results: Path, plugin: Path) -> Path:
    """Its archive, without weights."""
    to = results.parent / "light.zip"
    submit(results, to, plugins=[plugin])
    return to


@pytest.fixture
def verify(registries: None, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Exit code and output of a verification in this process."""

    def run(archive: Path, *options: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["verify", str(archive), *map(str, options)])
        said = capsys.readouterr()
        code = int(ended.value.code or 0)
        assert len(said.err.splitlines()) == (code == REFUSED)
        return code, said.err if code else said.out

    return run
