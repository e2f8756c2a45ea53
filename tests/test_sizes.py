"""Files and functions stay small enough to be read as a whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.source_files import ROOT

FILES = sorted(path for part in ("attacks", "bench", "defenses", "evaluators", "tests") for path in (ROOT / part).rglob("*.py"))


def test_files_have_at_most_300_lines() -> None:
    assert {str(path.relative_to(ROOT)) for path in FILES if len(path.read_text("utf-8").splitlines()) > 300} == set()


@pytest.mark.parametrize("part", ["attacks", "bench", "defenses", "evaluators", "tests"])
def test_functions_have_at_most_50_lines(part: str) -> None:
    """Without signature and docstring, in which a public function has a line for each of its options."""
    assert [name for path in FILES if path.is_relative_to(ROOT / part) for name in long_functions(path)] == []


def long_functions(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            if (node.end_lineno or 0) - first.lineno >= 50:
                found.append(f"{path.relative_to(ROOT)}: {node.name}")
    return found
