"""The options of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from bench.errors import UserError


@dataclass(frozen=True)
class RayOptions:
    """The address of a cluster, and the CPUs and GPUs that each cell takes."""

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0

    @classmethod
    def of(cls, executor: str, address: str | None, cpus: int | None, gpus: float | None) -> RayOptions | None:
        """From the command-line options; None for the local executor.

        Raises UserError if an option needs the other executor, or Ray is not installed.
        """
        given = {"--ray-address": address, "--cpus-per-cell": cpus, "--gpus-per-cell": gpus}
        if executor == "local":
            for option, value in given.items():
                if value is not None:
                    raise UserError(f"{option} {value}: this option needs --executor ray")
            return None
        if find_spec("ray") is None:
            raise UserError("--executor ray: Ray is not installed here; pip install 'clip-poison-bench[ray]'")
        return cls(address or cls.address, cpus or cls.cpus, gpus or cls.gpus)
