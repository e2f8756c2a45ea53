"""`bench.run`, `bench.evaluate` and `bench.load_model` from Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

import bench
from bench.console import can_redraw
from tests.e2e.conftest import PLUGIN, SMALL, Bench
from tests.e2e.conftest import bench as command_line  # noqa: F401  a fixture
from tests.e2e.traces import values

ASKED: dict[str, Any] = {
    "attack": "badnet",
    "set": {
        "data": {"train": 256, "holdout": 64, "test": 64, "probe_train": 64},
        "train": {"epochs": 1, "batch_size": 64},
        "attack.badnet.rate": 0.05,
    },
}
SAME = ("--attack", "badnet", *SMALL, "--set", "attack.badnet.rate=0.05")
IDENTITY = ["evaluator", "task", "metric"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> bench.Results:
    return bench.run(**ASKED, out=tmp_path_factory.mktemp("results") / "out", quiet=True)


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    columns = [*IDENTITY, "value", "n", "ci_low", "ci_high", "unit", "better", "status"]
    return frame[frame.status == "done"].sort_values(IDENTITY).reset_index(drop=True)[columns]


def _run(results: bench.Results, attack: str) -> str:
    return str(results.frame.query("attack == @attack").run_key.iloc[0])


def test_the_same_records_as_by_the_command_line(results: bench.Results, command_line: Bench, tmp_path: Path) -> None:  # noqa: F811
    done = command_line("run", *SAME, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert values(results.folder) == values(tmp_path / "out")
    assert results.outcomes == {"done": 2}
    assert results.report.is_file()


def test_what_comes_back(results: bench.Results) -> None:
    frame = bench.load_results(results.folder)
    assert set(frame.run_key) == set(results.runs)
    pd.testing.assert_frame_equal(results.frame, frame)
    again = bench.run(**ASKED | {"evaluator": ["zero_shot"]}, out=results.folder, quiet=True)
    assert (again.outcomes, again.failed) == ({"cached": 1}, 0)
    assert set(again.frame.attack) == {"badnet"}


def test_nothing_is_printed_when_quiet(results: bench.Results, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(**ASKED, out=results.folder, quiet=True)
    bench.run(**ASKED, out=results.folder, quiet=True, dry_run=True)
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = bench.run(**ASKED, out=tmp_path / "out", dry_run=True)
    assert (len(planned.runs), planned.outcomes) == (2, {})
    assert "2 cells, 2 to be trained" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_bad_input_raises(tmp_path: Path) -> None:
    with pytest.raises(bench.UserError, match="unknown defense 'clipp'; did you mean 'clip'"):
        bench.run(defense="clipp", out=tmp_path)
    with pytest.raises(bench.UserError, match="--device gpu: expected auto"):
        bench.run(device="gpu", out=tmp_path)  # type: ignore[arg-type]


def test_a_failed_cell_raises_nothing(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "traced.py").write_text(PLUGIN)
    monkeypatch.setenv("DOOM", "")
    asked = ASKED | {"attack": "none", "evaluator": "zero_shot"}
    done = bench.run(**asked, defense="traced", plugin=tmp_path / "traced.py", out=tmp_path / "out", quiet=True)
    assert (done.outcomes, done.failed) == ({"failed": 1}, 1)
    assert done.frame.status.tolist() == ["failed"]
    assert "TrainingDiverged" in done.frame.reason[0]


def test_outside_the_main_thread(results: bench.Results, tmp_path: Path) -> None:
    found: list[bench.Results] = []
    thread = threading.Thread(target=lambda: found.append(bench.run(**ASKED, out=tmp_path / "out", quiet=True)))
    thread.start()
    thread.join()
    assert values(found[0].folder) == values(results.folder)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Stopped")])
def test_stopped_then_finished(registries: None, tmp_path: Path, number: signal.Signals, raised: str) -> None:
    """After a signal the handlers are those of before, and the same call goes on from the checkpoint."""
    (tmp_path / "traced.py").write_text(PLUGIN.replace('self._note(f"step {self.steps}")', "self._kill()") + KILL)
    asked = ASKED | {"attack": "none", "evaluator": "zero_shot", "defense": "traced", "plugin": tmp_path / "traced.py"}
    before = signal.getsignal(number)
    os.environ["KILL"] = str(int(number))
    try:
        with pytest.raises(BaseException) as stopped:  # noqa: PT011
            bench.run(**asked, out=tmp_path / "out", quiet=True)
    finally:
        del os.environ["KILL"]
    assert type(stopped.value).__name__ == raised
    assert signal.getsignal(number) == before
    assert list(tmp_path.glob("out/runs/*/checkpoint.pt"))
    assert bench.run(**asked, out=tmp_path / "out", quiet=True).outcomes == {"done": 1}


KILL = """
    def _kill(self):
        if "KILL" in os.environ and self.steps == 2:
            os.kill(os.getpid(), int(os.environ["KILL"]))
"""


def test_evaluate_measures_what_is_on_record(results: bench.Results) -> None:
    model = bench.load_model(results.folder, _run(results, "badnet")).train()
    clean = bench.load_model(results.folder, _run(results, "none"))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    found = bench.evaluate(model, clean=clean, model="scenes-small", **ASKED)
    recorded = results.frame.query("attack == 'badnet'")
    pd.testing.assert_frame_equal(_measured(found), _measured(recorded))
    assert found.rate.eq(0.05).all()
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_evaluate_without_an_attack(results: bench.Results) -> None:
    clean = bench.load_model(results.folder, _run(results, "none"))
    found = bench.evaluate(clean, model="scenes-small", **ASKED | {"attack": "none"})
    pd.testing.assert_frame_equal(_measured(found), _measured(results.frame.query("attack == 'none'")))
    (asr,) = found[found.evaluator == "asr"].itertuples()
    assert (asr.status, asr.reason) == ("unsupported", "no attack, so nothing to measure")
    assert np.isnan(asr.value)


def test_evaluate_refuses(results: bench.Results) -> None:
    network = bench.load_model(results.folder, _run(results, "none"))
    with pytest.raises(bench.UserError, match="asr needs a model trained without poison: pass it as clean"):
        bench.evaluate(network, model="scenes-small", **ASKED)
    with pytest.raises(bench.UserError, match="model small-64 takes images of 64 pixels, the given network takes 32"):
        bench.evaluate(network, model="small-64", **ASKED | {"attack": "none"})
    with pytest.raises(bench.UserError, match="no trained cell beef"):
        bench.load_model(results.folder, "beef")


def test_a_plugin_that_was_changed_is_loaded_anew(registries: None, tmp_path: Path) -> None:
    """As in a notebook: the class that runs is the one in the file, and so is the digest in the key."""
    file = tmp_path / "traced.py"
    asked = ASKED | {"attack": "none", "evaluator": "zero_shot", "defense": "traced", "plugin": file, "out": tmp_path / "out"}
    keys = []
    for source in (PLUGIN, PLUGIN.replace('"traced"', '"renamed"'), PLUGIN + "# changed\n", PLUGIN):
        file.write_text(source)
        if "renamed" in source:
            with pytest.raises(bench.UserError, match="unknown defense 'traced'"):
                bench.run(**asked, dry_run=True, quiet=True)
        else:
            keys += bench.run(**asked, dry_run=True, quiet=True).runs
    assert keys[0] == keys[2] != keys[1]


def test_a_plugin_in_no_file_is_refused(registries: None, tmp_path: Path) -> None:
    from bench.defenses.clip import CLIP
    from bench.registry import register_defense

    class Cell(CLIP):
        """As if it were typed into a notebook."""

        __module__ = "__notebook__"

    sys.modules["__notebook__"] = type(sys)("__notebook__")
    try:
        register_defense("in_a_cell")(Cell)
        with pytest.raises(bench.UserError, match=r"'in_a_cell' is not defined in a file.*%%writefile FILE.py"):
            bench.run(**ASKED | {"attack": "none", "defense": "in_a_cell"}, out=tmp_path, dry_run=True)
    finally:
        del sys.modules["__notebook__"]


def test_a_plugin_of_a_script_is_told_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    body = (
        PLUGIN
        + f"""
import bench
asked = {ASKED!r} | {{"attack": "none", "evaluator": "zero_shot", "defense": "traced"}}
print(*bench.run(**asked, out={str(tmp_path / "out")!r}, dry_run=True, quiet=True).runs)
"""
    )
    found = []
    for text in (body, body + "# changed\n"):
        script.write_text(text)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=_environment())
        found.append(done.stdout)
    assert found[0] != found[1]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(bench.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.mark.parametrize(("code", "absent"), [
    ("import bench; bench.UserError; dir(bench)", {"torch", "pandas", "numpy", "pydantic", "rich", "click"}),
    ("import bench; bench.load_results('results/suites')", {"torch", "attacks", "defenses", "open_clip"}),
])  # fmt: skip
def test_what_is_imported_when(code: str, absent: set[str]) -> None:
    root = Path(bench.__file__).parents[1]
    show = "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + show], cwd=root, capture_output=True, text=True, check=True)
    assert absent & set(done.stdout.split()) == set()
    assert "bench" in done.stdout.split()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'rum'"):
        bench.rum  # noqa: B018
    assert {"run", "load_results", "evaluate", "UserError"} <= set(dir(bench))


@pytest.mark.parametrize(
    ("terminal", "notebook", "widgets", "shown"),
    [(True, False, False, True), (False, True, True, True), (False, True, False, False), (False, False, True, False)],
)
def test_where_bars_are_shown(
    terminal: bool, notebook: bool, widgets: bool, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without widgets a notebook would show every state of a bar anew."""
    monkeypatch.setattr("bench.console.find_spec", lambda name: object() if widgets and name == "ipywidgets" else None)
    assert can_redraw(Console(force_terminal=terminal, force_jupyter=notebook)) is shown
