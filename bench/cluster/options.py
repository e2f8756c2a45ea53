"""The options of clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

from bench.errors import UserError, did_you_mean
from bench.text import toml_or_text

_HOURS_4 = 240
_SEVERAL_PROCESSES = {"nodes", "tasks_per_node", "ntasks_per_node"}


@dataclass(frozen=True)
class RayOptions:
    """The address of a cluster, and the CPUs and GPUs that each cell takes."""

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0

    system: ClassVar = "Ray"
    gpu_option: ClassVar = "--gpus-per-cell"
    count_options: ClassVar = "--cpus-per-cell and --gpus-per-cell determine"

    @classmethod
    def of(cls, executor: str, address: str | None, cpus: int | None, gpus: float | None) -> RayOptions | None:
        """From the command-line options; None for another executor.

        Raises UserError if an option needs the other executor, or Ray is not installed.
        """
        given = {"--ray-address": address, "--cpus-per-cell": cpus, "--gpus-per-cell": gpus}
        if executor != "ray":
            for option, value in given.items():
                if value is not None:
                    raise UserError(f"{option} {value}: this option needs --executor ray")
            return None
        if find_spec("ray") is None:
            raise UserError("--executor ray: Ray is not installed here; pip install 'clip-poison-bench[ray]'")
        return cls(address or cls.address, cpus or cls.cpus, gpus or cls.gpus)


@dataclass(frozen=True)
class SlurmOptions:
    """Slurm, or processes of this machine with `cluster` "local", and submitit's parameters of a job."""

    cluster: str = "slurm"
    parameters: Mapping[str, Any] = field(default_factory=dict)

    system: ClassVar = "Slurm"
    gpu_option: ClassVar = "--slurm gpus_per_node=1"
    count_options: ClassVar = "--slurm array_parallelism=N determines"

    @property
    def cpus(self) -> int:
        return int(self.parameters.get("cpus_per_task", 1))

    @classmethod
    def of(cls, executor: str, given: Iterable[str]) -> SlurmOptions | None:
        """From the KEY=VALUE of --slurm; None for another executor.

        Raises UserError for an unknown key, if --slurm needs the other executor, or if submitit is not installed.
        """
        if executor != "submitit":
            for text in given:
                raise UserError(f"--slurm {text}: this option needs --executor submitit")
            return None
        if find_spec("submitit") is None:
            raise UserError("--executor submitit: submitit is not installed here; pip install 'clip-poison-bench[submitit]'")
        parameters: dict[str, Any] = {"timeout_min": _HOURS_4}
        for text in given:
            parameters.update([_parameter(text)])
        return cls(parameters.pop("cluster", cls.cluster), parameters)


def _parameter(text: str) -> tuple[str, Any]:
    """A key that `submitit.AutoExecutor` understands, and its value."""
    from submitit import AutoExecutor, SlurmExecutor

    shared = AutoExecutor._valid_parameters()
    known = {"cluster", *shared, *SlurmExecutor._valid_parameters()} - _SEVERAL_PROCESSES
    key, equals, value = text.partition("=")
    if not equals or key not in known:
        problem = f"unknown key; {did_you_mean(key, known)}" if equals else "expected KEY=VALUE, for example partition=gpu"
        raise UserError(f"--slurm {text}: {problem}")
    if key == "cluster" and value not in ("slurm", "local"):
        raise UserError(f"--slurm {text}: expected slurm, or local for processes of this machine")
    return key if key == "cluster" or key in shared else f"slurm_{key}", toml_or_text(value)
