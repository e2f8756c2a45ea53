"""What --slurm accepts, and what sbatch is told."""

import os
import signal
from pathlib import Path

import pytest

from bench.cluster.options import SlurmOptions
from bench.errors import UserError
from bench.interface.options import RunOptions
from bench.matrix.store import Store
from bench.shutdown import graceful_shutdown

SBATCH = '#!/bin/sh\ncp "$1" "$0.script"\necho "Submitted batch job 7"\n'


def _of(*given: str) -> SlurmOptions:
    options = SlurmOptions.of("submitit", given)
    assert options
    return options


def test_without_submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cluster.options.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--executor submitit: submitit is not installed here; pip install 'clip-poison-bench\["
    ):
        _of()


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_for_another_executor(executor: str) -> None:
    assert SlurmOptions.of(executor, ()) is None
    with pytest.raises(UserError, match=r"^--slurm partition=gpu: this option needs --executor submitit$"):
        SlurmOptions.of(executor, ["partition=gpu"])


def test_ways_to_say_the_same() -> None:
    table = RunOptions.of({"slurm": {"gpus_per_node": 1, "partition": "gpu"}})
    words = RunOptions.of({"slurm": ["gpus_per_node=1", "partition=gpu"]})
    pytest.importorskip("submitit")
    assert _of(*table.slurm) == _of(*words.slurm)
    assert words.command_line()[1:] == ("--slurm", "gpus_per_node=1", "--slurm", "partition=gpu")
    with pytest.raises(UserError, match="--slurm 3: expected KEY=VALUE"):
        RunOptions.of({"slurm": 3})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("partitoin=gpu", "--slurm partitoin=gpu: unknown key; did you mean 'partition'?"),
        ("nodes=2", "--slurm nodes=2: unknown key"),
        ("gpu", "--slurm gpu: expected KEY=VALUE, for example partition=gpu"),
        ("cluster=debug", "--slurm cluster=debug: expected slurm, or local for processes of this machine"),
    ],
)
def test_a_bad_parameter(given: str, words: str) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError) as raised:
        _of(given)
    assert str(raised.value).startswith(words)


@pytest.mark.filterwarnings("error::UserWarning")
def test_cells_are_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    from bench.cluster.submitit_executor import auto_executor, submit

    store, tools = Store.create(tmp_path / "out"), tmp_path / "bin"
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    given = ("partition=gpu", "gpus_per_node=1", "cpus_per_task=3", "array_parallelism=2")
    with pytest.MonkeyPatch.context() as bare:
        bare.setenv("PATH", str(tools))
        with pytest.raises(UserError, match="--executor submitit: there is no Slurm here"):
            auto_executor(store, _of(*given))
    tools.mkdir()
    for name in ("srun", "sbatch"):
        (tools / name).write_text(SBATCH)
        (tools / name).chmod(0o755)
    assert _of(*given).cpus == 3
    with pytest.raises(UserError, match='--slurm: Parameter "cpus_per_task" expected type'):
        auto_executor(store, _of("cpus_per_task=many"))

    jobs = submit(auto_executor(store, _of(*given)), [_nothing] * 3)  # type: ignore[list-item]
    assert [job.job_id for job in jobs] == ["7_0", "7_1", "7_2"]
    told = (tools / "sbatch.script").read_text()
    for option in ("array=0-2%2", "partition=gpu", "gpus-per-node=1", "cpus-per-task=3", "time=240", "signal=USR2@90"):
        assert f"#SBATCH --{option}\n" in told.replace("'", "")

    (tools / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(UserError, match="--slurm: the jobs were not accepted: invalid partition"):
        submit(auto_executor(store, _of(*given)), [_nothing] * 2)  # type: ignore[list-item]


def _nothing() -> str:
    return "done"


@pytest.mark.parametrize(("outcome", "said"), [("locked", [True, signal.SIGUSR2]), ("done", [True])])
def test_a_preempted_job_is_requeued_once_its_cell_has_stopped(
    monkeypatch: pytest.MonkeyPatch, outcome: str, said: list[object]
) -> None:
    pytest.importorskip("submitit")
    from bench.cluster import submitit_executor

    heard: list[object] = []

    def run_cell(*_: object) -> str:
        with graceful_shutdown() as stop:
            signal.raise_signal(signal.SIGUSR2)
            heard.append(stop())
        return outcome

    monkeypatch.setattr(submitit_executor, "run_cell", run_cell)
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))  # submitit's own
    try:
        job = submitit_executor.CellJob(None, None, ())  # type: ignore[arg-type]
        assert (job(), heard) == (outcome, said)
        assert job.checkpoint().function is job
    finally:
        signal.signal(signal.SIGUSR2, before)
