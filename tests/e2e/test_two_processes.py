from pathlib import Path

from .conftest import SMALL, results, started

COMMON = ("run", *SMALL, "--attack", "badnet,tdpa", "--defense", "traced", "--evaluator", "asr,zero_shot")


def test_no_cell_is_done_twice(plugin: Path, tmp_path: Path) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace"
    arguments = (*COMMON, "--plugin", plugin, "--out", out)
    processes = [started(*arguments, TRACE=trace, WAIT=0.1) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    assert sum(out.count("done in") for out, _ in said) == 3
    assert trace.read_text().splitlines().count("made") == 2
    assert trace.read_text().splitlines().count("step 1") == 2
    assert {row["status"] for row in results(out)} == {"done", "unsupported"}
    assert not [path for path in out.rglob("*") if ".tmp" in path.name or path.name == "checkpoint.pt"]
