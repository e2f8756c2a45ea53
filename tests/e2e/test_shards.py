import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import SMALL, Bench, results, started
from .traces import SOURCE, check_none_twice, lines, values

MATRIX = ("run", *SMALL, "--evaluator", "asr,zero_shot")
FOUR = (*MATRIX, "--attack", "none,badnet", "--defense", "clip,cleanclip")
TWELVE = (*MATRIX, "--attack", "none,badnet,blended,tdpa", "--defense", "clip,cleanclip,roclip")


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tracing.py").write_text(SOURCE)
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    return tmp_path / "trace"


def test_shards_one_after_the_other(bench: Bench, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert bench(*FOUR, "--out", whole).code == 0
    reached = []
    for number in (3, 1, 2):
        done = bench(*FOUR, "--out", shared, "--shard", f"{number}/3")
        assert (done.code, done.err) == (0, "")
        reached.append({path.parent.name for path in shared.glob("runs/*/run.json")})
    assert [len(keys) for keys in reached] == [4, 4, 4] or len(reached[0]) < 4
    assert values(shared) == values(whole)
    assert {row["status"] for row in results(shared)} == {"done", "unsupported"}
    assert (shared / "report" / "results.csv").read_bytes() == (whole / "report" / "results.csv").read_bytes()
    assert "4 cells, 4 to be trained" in bench(*FOUR, "--shard", "1/1", "--out", tmp_path / "new", "--dry-run").out
    refused = bench(*FOUR, "--shard", "0/3", "--out", shared)
    assert (refused.code, refused.err) == (
        2,
        "bench: --shard 0/3: write it as i/n with i from 1 to n, for example --shard 1/4\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_shards_killed_at_random_moments(bench: Bench, trace: Path, tmp_path: Path, seed: int) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = (*TWELVE, "--set", "train.epochs=2", "--plugin", tmp_path / "tracing.py")

    def start(number: int) -> subprocess.Popen[str]:
        return started(*arguments, "--out", out, "--shard", f"{number}/3", WAIT=0.2)

    draw = random.Random(seed)
    shards = {number: start(number) for number in (1, 2, 3)}
    kills = 0
    while kills < 6 and any(process.poll() is None for process in shards.values()):
        before = len(lines(trace))
        _wait(lambda before=before: len(lines(trace)) > before + draw.randrange(3))
        time.sleep(draw.uniform(0, 2))
        number = draw.choice(list(shards))
        if shards[number].poll() is None:
            shards[number].kill()
            shards[number].communicate()
            kills += 1
            shards[number] = start(number)
    said = {number: process.communicate(timeout=500) for number, process in shards.items()}
    assert [process.returncode for process in shards.values()] == [0, 0, 0], said
    assert kills >= 3
    assert len(list(out.glob("runs/*/run.json"))) == 12
    check_none_twice(trace, out)
    os.environ["TRACE"] = os.devnull
    assert bench(*arguments, "--out", whole).code == 0
    assert values(out) == values(whole)


def _wait(true: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
