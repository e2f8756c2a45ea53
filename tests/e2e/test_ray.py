import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.options import RayOptions
from bench.errors import UserError

from .conftest import Bench, started
from .test_shards import FOUR, MATRIX, TWELVE
from .traces import SOURCE, check_none_twice, lines, values

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'clip-poison-bench[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

from bench.cluster.ray_executor import connected  # noqa: E402

NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    "include_log_monitor": False,
    "no_monitor": True,
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A plugin file that notes trainings, and beside it what it notes; known to every node that is started."""
    folder = tmp_path_factory.mktemp("tracing")
    (folder / "tracing.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        for name, value in {
            "TRACE": folder / "trace",
            "WAIT": 0.1,
            "PYTHONPATH": paths,
            "RAY_USAGE_STATS_ENABLED": 0,
        }.items():
            patch.setenv(name, str(value))
        yield folder / "trace"


@pytest.fixture(scope="module")
def cluster(trace: Path) -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def test_an_address_where_nothing_listens_is_one_sentence_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"--ray-address {address}: no answer"), connected(RayOptions(address)):
        pass
    assert time.monotonic() - began < 10


def test_a_matrix_on_two_nodes(bench: Bench, cluster: Cluster, trace: Path, tmp_path: Path) -> None:
    on_ray = ("--executor", "ray", "--ray-address", cluster.address)
    plugin = ("--plugin", trace.with_name("tracing.py"))
    out, whole = tmp_path / "out", tmp_path / "whole"
    first = bench(*FOUR, *plugin, *on_ray, "--out", out)
    assert (first.code, first.err) == (0, "")
    assert first.out.count("runs on") == 4
    assert "[4/4]" in first.out
    check_none_twice(trace, out)
    assert len({process for _, _, process in lines(trace)}) == 2
    assert all(record["provenance"]["command"].startswith("bench ") for record in _records(out))

    again = bench(*FOUR, *plugin, *on_ray, "--out", out)
    assert (again.code, again.out.count("already on record"), again.out.count("runs on")) == (0, 4, 0)
    assert bench(*FOUR, "--out", whole).code == 0
    assert values(out) == values(whole)
    assert (out / "report" / "results.csv").read_bytes() == (whole / "report" / "results.csv").read_bytes()

    picky = bench(*MATRIX, "--attack", "none", *plugin, *on_ray, "--defense", "picky", "--out", tmp_path / "picky")
    assert (picky.code, picky.err) == (2, "bench: defense.picky: nothing pleases it; choose another\n")
    assert not list((tmp_path / "picky").glob("runs/*/failure.json"))
    large = bench(*FOUR, *on_ray, "--gpus-per-cell", 2, "--out", out)
    assert large.code == 2
    assert "no node of the Ray cluster has 1 CPUs and 2 GPUs" in large.err


def _records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]


def _wait(true: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_node_dies(bench: Bench, cluster: Cluster, trace: Path, tmp_path: Path) -> None:
    third = cluster.add_node(**NODE)
    out, whole = tmp_path / "out", tmp_path / "whole"
    plugin = ("--plugin", trace.with_name("tracing.py"))
    before = len(lines(trace))
    driver = started(*TWELVE, *plugin, "--executor", "ray", "--ray-address", cluster.address, "--out", out)
    _wait(lambda: len({process for _, _, process in lines(trace)[before:]}) == 3 and len(_records(out)) > 2)
    cluster.remove_node(third, allow_graceful=False)
    said = driver.communicate(timeout=500)
    assert driver.returncode == 0, said
    assert len(_records(out)) == 12
    check_none_twice(trace, out, before)
    assert bench(*TWELVE, "--out", whole).code == 0
    assert values(out) == values(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_driver_stops(bench: Bench, cluster: Cluster, trace: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    plugin = ("--plugin", trace.with_name("tracing.py"))
    arguments = (*FOUR, "--set", "train.epochs=10")
    on_ray = (*plugin, "--executor", "ray", "--ray-address", cluster.address)
    before = len(lines(trace))
    driver = started(*arguments, *on_ray, "--out", out)
    _wait(lambda: len(lines(trace)) > before + 1)
    time.sleep(2)
    driver.send_signal(number)
    _, err = driver.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert driver.returncode == 128 + number, err
        assert "interrupted; run the same command again to resume" in err
        assert list(out.glob("runs/*/checkpoint.pt"))
    assert bench(*arguments, *on_ray, "--out", out).code == 0
    words = [word for word, _, _ in lines(trace)[before:]]
    assert "resumed" in words or number == signal.SIGKILL
    check_none_twice(trace, out, before)
    assert bench(*arguments, "--out", whole).code == 0
    assert values(out) == values(whole)
