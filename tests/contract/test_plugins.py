"""Plugins from files and entry points, and errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import plugins
from bench.api import Params
from bench.cli import main
from bench.errors import UserError
from bench.registry import defenses

EXAMPLE = Path(__file__).with_name("example_defense.py")
SMALL = [
    *("--set", "data.train=256", "--set", "data.test=64", "--set", "data.holdout=64", "--set", "data.probe_train=64"),
    *("--set", "train.epochs=1", "--set", "train.batch_size=64", "--set", "attack.rate=0.04"),
    *("--attack", "badnet", "--evaluator", "zero_shot", "--device", "cpu"),
]
PEEKING = '''
import gc
import torch
from bench.data.poisoned import PoisonedPairs
from bench.registry import register_defense
from bench.defenses.clip import CLIP

@register_defense("peeking")
class Peeking(CLIP):
    """A defense that finds out which pairs are poisoned (Nobody 2024)."""

    def phases(self, epoch):
        self.mask = next(each for each in gc.get_objects() if isinstance(each, PoisonedPairs)).poisoned
        return super().phases(epoch)

    def loss(self, batch, encoder, phase):
        poisoned = torch.from_numpy(self.mask)[batch.indices].float().mean()
        return super().loss(batch, encoder, phase) * (1 + poisoned)
'''


@pytest.fixture
def bench(registries: None, capfd: pytest.CaptureFixture[str]) -> Bench:
    return Bench(capfd)


class Bench:
    """Runs a command in this process: its exit code and its output."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        return int(exit_.value.code or 0), " ".join((out + err).split())


def _write(folder: Path, text: str) -> Path:
    file = folder / "plugin.py"
    file.write_text(text)
    return file


def test_a_plugin_file_is_run(bench: Bench, tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40
    code, output = bench("run", "--plugin", EXAMPLE, "--defense", "soft_clip", *SMALL, "--out", tmp_path / "results")
    assert code == 0, output
    assert "soft_clip" in output
    table = (tmp_path / "results" / "report" / "results.csv").read_text()
    assert "soft_clip" in table


def test_a_plugin_is_found_by_its_entry_point(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_defense.py").write_text(EXAMPLE.read_text())
    info = tmp_path / "my_defense-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-defense\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.defenses]\nsoft_clip = my_defense:SoftCLIP\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, output = bench("list", "defenses")
    assert code == 0
    assert "not loaded" not in output
    assert "[entry point soft_clip = my_defense:SoftCLIP]" in output
    code, output = bench("run", "--dry-run", "--defense", "soft_clip", *SMALL, "--out", tmp_path / "results")
    assert code == 0, output
    assert "soft_clip" in output


def test_a_broken_plugin_is_shown_and_breaks_nothing(bench: Bench, tmp_path: Path) -> None:
    file = _write(tmp_path, EXAMPLE.read_text() + "\nraise ValueError('this is broken')\n")
    code, output = bench("list", "--plugin", file)
    assert code == 0
    assert f"not loaded: --plugin {file}" in output
    assert "ValueError: this is broken" in output
    assert "soft_clip" not in output
    code, output = bench("run", "--dry-run", *SMALL, "--plugin", file, "--out", tmp_path / "results")
    assert code == 0, output
    assert "this is broken" in output
    assert "to be trained" in output


def test_a_name_that_is_taken_is_refused(bench: Bench, tmp_path: Path) -> None:
    file = _write(tmp_path, EXAMPLE.read_text().replace('"soft_clip"', '"clip"'))
    for command in (["run", "--dry-run", "--plugin", file], ["check", file]):
        code, output = bench(*command)
        assert code == 2
        assert str(file) in output
        assert "built-in bench.defenses.clip" in output
        assert "Traceback" not in output


def test_an_unknown_defense_suggests_the_nearest(bench: Bench) -> None:
    code, output = bench("run", "--dry-run", "--plugin", EXAMPLE, "--defense", "soft_clop")
    assert (code, output) == (2, "bench: unknown defense 'soft_clop'; did you mean 'soft_clip'?")


@pytest.mark.parametrize("command", [("run", "--dry-run", "--defense"), ("describe",)])
def test_an_unknown_name_without_a_file_asks_for_one(bench: Bench, command: tuple[str, ...]) -> None:
    code, output = bench(*command, "soft_clip")
    assert code == 2
    assert output.endswith("? (a plugin of your own needs --plugin FILE)")


def test_check_passes_the_example(bench: Bench) -> None:
    code, output = bench("check", EXAMPLE)
    assert code == 0, output
    assert "defense 'soft_clip': ok name" in output
    assert "ok never sees the poison" in output
    assert output.endswith(" checks, 0 failed")


def test_check_passes_a_built_in_file(bench: Bench) -> None:
    code, output = bench("check", Path("attacks") / "badnet.py" if Path("attacks").is_dir() else _built_in())
    assert code == 0, output
    assert "attack 'badnet':" in output


def _built_in() -> Path:
    from bench.attacks import badnet

    return Path(badnet.__file__)


def test_check_detects_a_defense_that_looks_for_the_poison(bench: Bench, tmp_path: Path) -> None:
    code, output = bench("check", _write(tmp_path, PEEKING))
    assert code == 1
    assert "FAILED never sees the poison: training reads which pairs are poisoned: plugin.py:13 (phases)" in output
    assert output.endswith(", 1 failed")


def test_check_reports_exceptions_of_the_plugin(bench: Bench, tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("soft = self.params.smoothing", "soft = self.params.nothing")
    code, output = bench("check", _write(tmp_path, text))
    assert code == 1
    assert "FAILED training: AttributeError: 'SoftCLIPParams' object has no attribute 'nothing'" in output


def test_check_names_the_line_of_the_plugin_not_of_what_it_calls(bench: Bench, tmp_path: Path) -> None:
    code, output = bench("check", _write(tmp_path, FAULTY))
    assert code == 1
    line = FAULTY.splitlines().index("    def loss(self, batch, encoder, phase):") + 2
    assert f"FAILED training: ValueError: nothing is not a valid value for reduction (line {line} of plugin.py)" in output


def test_check_of_a_file_that_cannot_be_loaded(bench: Bench, tmp_path: Path) -> None:
    file = _write(tmp_path, "import no_such_module\n")
    code, output = bench("check", file)
    assert code == 2
    assert 'plugin.py", line 1' in output
    assert output.endswith(f"bench: {file} cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'")


def test_check_of_a_file_without_plugins(bench: Bench, tmp_path: Path) -> None:
    file = _write(tmp_path, "x = 1\n")
    code, output = bench("check", file)
    assert (code, output.partition(";")[0]) == (2, f"bench: {file} registers no plugin")


def test_check_of_a_missing_file(bench: Bench, tmp_path: Path) -> None:
    assert bench("check", tmp_path / "none.py") == (2, f"bench: {tmp_path / 'none.py'}: no such file")


FAULTY = """
import torch
from bench.api import Defense
from bench.registry import register_defense

@register_defense("faulty")
class Faulty(Defense):
    def loss(self, batch, encoder, phase):
        return torch.nn.functional.cross_entropy(batch, encoder, reduction="nothing")
"""


def test_where_in_a_plugin_an_exception_came_from(registries: None, tmp_path: Path) -> None:
    plugins.load([_write(tmp_path, FAULTY)])
    faulty = defenses["faulty"].plugin(Params(), None)  # type: ignore[arg-type]
    with pytest.raises(Exception) as raised:  # noqa: PT011  whatever PyTorch raises, deep inside
        faulty.loss(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64), None)  # type: ignore[arg-type]
    line = FAULTY.splitlines().index("    def loss(self, batch, encoder, phase):") + 2
    assert plugins.plugin_location(raised.value) == f" (plugin.py, line {line})"
    with pytest.raises(UserError) as ours:
        plugins.load([tmp_path / "none.py"])
    assert plugins.plugin_location(ours.value) == ""
