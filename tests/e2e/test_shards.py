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


def test_shards_one_after_the_other(bench: Bench, tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert bench(*FOUR, "--out", whole).code == 0
    for number, trained in ((3, 3), (1, 3), (2, 4)):
        done = bench(*FOUR, "--out", shared, "--shard", f"{number}/3")
        assert (done.code, done.err) == (0, "")
        assert len(list(shared.glob("runs/*/run.json"))) == trained
    assert values(shared) == values(whole)
    assert {row["status"] for row in results(shared)} == {"done", "unsupported"}
    assert (shared / "report" / "results.csv").read_bytes() == (whole / "report" / "results.csv").read_bytes()
    refused = bench(*FOUR, "--shard", "0/3", "--out", shared)
    assert refused.code == 2
    assert refused.err == "bench: --shard 0/3: expected i/n with i from 1 to n, for example --shard 1/4\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_shards_killed_at_random_moments(bench: Bench, tmp_path: Path, seed: int) -> None:
    out, whole, trace, plugin = (tmp_path / name for name in ("out", "whole", "trace", "tracing.py"))
    plugin.write_text(SOURCE)
    arguments = (*TWELVE, "--set", "train.epochs=2")

    def start(number: int) -> subprocess.Popen[str]:
        return started(*arguments, "--plugin", plugin, "--out", out, "--shard", f"{number}/3", TRACE=trace, WAIT=0.2)

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
    assert bench(*arguments, "--out", whole).code == 0
    assert values(out) == values(whole)


def _wait(true: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.05)
