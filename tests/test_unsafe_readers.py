"""No file that is read can run code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.source_files import imports, modules, under

PLUGINS = ("bench.attacks", "bench.defenses", "bench.evaluators")


def _unsafe(path: Path) -> Iterator[str]:
    """Where a module could run code from a file that it reads."""
    safe = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in safe:
            name, value = safe[called]
            given = {each.arg: each.value for each in node.keywords}
            if not (isinstance(given.get(name), ast.Constant) and given[name].value is value):  # type: ignore[attr-defined]
                yield f"{path.name}:{node.lineno}: {called} without {name}={value}"
        elif isinstance(node, ast.Attribute) and node.attr in ("extractall", "unpack_archive"):
            yield f"{path.name}:{node.lineno}: {node.attr}"


def test_nothing_that_is_read_can_run_code() -> None:
    """Of the readers of pickles, only that of CIFAR's batches, which admits arrays alone."""
    picklers = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
    found = [
        problem
        for package in ("bench", *PLUGINS)
        for module, path in modules(package)
        if module != "bench.data.cifar"
        for problem in (*_unsafe(path), *(name for name in imports(module, path) if under(name, picklers)))
    ]
    assert found == []


def test_code_that_reads_unsafely_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("torch.load(x)\nnp.load(x, allow_pickle=True)\ntorch.load(x, weights_only=True)\ntar.extractall(x)\n")
    assert [problem.split(":")[1] for problem in _unsafe(file)] == ["1", "2", "4"]
