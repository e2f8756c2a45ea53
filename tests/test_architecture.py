"""Imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
FOLDERS = ("attacks", "defenses", "evaluators")
PLUGINS = tuple(f"bench.{folder}" for folder in FOLDERS)
OPEN_TO_PLUGINS = ("bench.api", "bench.data", "bench.models", "bench.testing", "bench.registry", "bench.errors")

RECORDS = ("bench.matrix.schema", "bench.matrix.reading", "bench.matrix.store", "bench.matrix.old_records")

# What each module and package of the engine may import, from the bottom up: an entry names entries above it alone.
LAYERS: dict[str, tuple[str, ...]] = {
    "bench.errors": (),
    "bench.canonical": (),
    "bench.sources": (),
    "bench.text": (),
    "bench.intervals": (),
    "bench.meaning": (),
    "bench.statistics": (),
    "bench.console": (),
    "bench.quiet": (),
    "bench.shutdown": ("bench.errors",),
    "bench.disk": ("bench.errors",),
    "bench.references": ("bench.errors",),
    "bench.api": ("bench.canonical", "bench.intervals", "bench.meaning"),
    "bench.registry": ("bench.api", "bench.errors", "bench.sources"),
    "bench.plugins": ("bench.registry", "bench.errors"),
    "bench.recipe": ("bench.registry", "bench.errors"),
    "bench.data": ("bench.api", "bench.registry", "bench.errors", "bench.text"),
    "bench.models": ("bench.api", "bench.data", "bench.errors"),
    "bench.config": (
        "bench.api",
        "bench.canonical",
        "bench.errors",
        "bench.models",
        "bench.recipe",
        "bench.registry",
        "bench.sources",
    ),
    "bench.keys": ("bench.canonical", "bench.config"),
    "bench.suites": ("bench.canonical", "bench.errors"),
    "bench.training": (
        "bench.api",
        "bench.config",
        "bench.data",
        "bench.disk",
        "bench.errors",
        "bench.keys",
        "bench.models",
        "bench.shutdown",
    ),
    "bench.matrix": (
        "bench.__version__",
        "bench.api",
        "bench.canonical",
        "bench.config",
        "bench.console",
        "bench.data",
        "bench.disk",
        "bench.errors",
        "bench.keys",
        "bench.meaning",
        "bench.models",
        "bench.plugins",
        "bench.quiet",
        "bench.recipe",
        "bench.registry",
        "bench.shutdown",
        "bench.suites",
        "bench.text",
        "bench.training",
    ),
    "bench.profiling": ("bench.api", "bench.console", "bench.errors", "bench.matrix", "bench.models", "bench.training"),
    "bench.jobs": (
        "bench.config",
        "bench.console",
        "bench.data",
        "bench.errors",
        "bench.matrix",
        "bench.models",
        "bench.plugins",
        "bench.shutdown",
        "bench.training",
    ),
    "bench.cluster": ("bench.console", "bench.errors", "bench.matrix"),
    "bench.reports": (
        "bench.__version__",
        "bench.canonical",
        "bench.console",
        "bench.disk",
        "bench.errors",
        "bench.intervals",
        "bench.meaning",
        "bench.statistics",
        "bench.suites",
        "bench.matrix",
    ),
    "bench.interface": (
        "bench.__version__",
        "bench.api",
        "bench.canonical",
        "bench.cluster",
        "bench.config",
        "bench.console",
        "bench.disk",
        "bench.errors",
        "bench.jobs",
        "bench.keys",
        "bench.matrix",
        "bench.models",
        "bench.plugins",
        "bench.recipe",
        "bench.references",
        "bench.registry",
        "bench.reports",
        "bench.shutdown",
        "bench.suites",
        "bench.training",
    ),
    "bench.export": (
        "bench.__version__",
        "bench.api",
        "bench.config",
        "bench.data",
        "bench.disk",
        "bench.errors",
        "bench.interface",
        "bench.matrix",
        "bench.models",
    ),
    "bench.testing": (
        "bench.api",
        "bench.config",
        "bench.data",
        "bench.errors",
        "bench.keys",
        "bench.models",
        "bench.plugins",
        "bench.recipe",
        "bench.references",
        "bench.registry",
        "bench.sources",
        "bench.training",
    ),
    "bench.cli": ("bench",),
    "bench.benchmarks": ("bench",),
}
# Parts of packages that may import less.
PARTS: dict[str, tuple[str, ...]] = {
    "bench.matrix.schema": ("bench.canonical", "bench.errors", "bench.matrix.reading", "bench.meaning", "bench.suites"),
    "bench.matrix.reading": ("bench.text",),
    "bench.matrix.store": ("bench.canonical", "bench.disk", "bench.errors", "bench.matrix.reading", "bench.matrix.schema"),
    "bench.matrix.old_records": ("bench.matrix.schema", "bench.meaning"),
    "bench.reports": (*(name for name in LAYERS["bench.reports"] if name != "bench.matrix"), *RECORDS),
}


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    file = ROOT / Path(*package.split(".")).with_suffix(".py")
    for path in [file] if file.is_file() else sorted((ROOT / Path(*package.split("."))).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def _imports(module: str, path: Path) -> Iterator[str]:
    """Everything that a module imports anywhere in it, as dotted names; the parts of `from x import y` as x.y."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module",
            "__import__",
        }:
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _under(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _offences(package: str, allowed: tuple[str, ...]) -> list[str]:
    ours = ("bench", *FOLDERS)
    return [
        f"{module} imports {name}"
        for module, path in _modules(package)
        for name in _imports(module, path)
        if _under(name, ours) and not _under(name, (package, *allowed))
    ]


@pytest.mark.parametrize("package", PLUGINS)
def test_plugins_use_the_contracts_only(package: str) -> None:
    assert len(list(_modules(package))) > 1
    assert _offences(package, OPEN_TO_PLUGINS) == []


def test_the_engine_knows_no_plugin() -> None:
    found = [
        f"{module} imports {name}"
        for module, path in _modules("bench")
        if not _under(module, PLUGINS)
        for name in _imports(module, path)
        if _under(name, (*PLUGINS, *FOLDERS))
    ]
    assert found == []


@pytest.mark.parametrize(("package", "allowed"), [*LAYERS.items(), *PARTS.items()], ids=[*LAYERS, *PARTS])
def test_layers(package: str, allowed: tuple[str, ...]) -> None:
    assert list(_modules(package))
    assert _offences(package, allowed) == []


def test_every_part_of_the_engine_has_a_layer_above_those_that_it_uses() -> None:
    parts = {".".join(module.split(".")[:2]) for module, _ in _modules("bench")} - {"bench", "bench.__main__", *PLUGINS}
    assert parts == set(LAYERS)
    names = list(LAYERS)
    for number, (_, allowed) in enumerate(LAYERS.items()):
        used = {name for name in allowed if not name.startswith("bench.__") and name != "bench"}
        assert used <= set(names[:number])


def test_only_the_command_line_knows_the_command_line_and_the_checks() -> None:
    for upper in ("bench.cli", "bench.testing"):
        users = [
            module
            for module, path in _modules("bench")
            if not _under(module, (upper, "bench.cli", "bench.__main__"))
            for name in _imports(module, path)
            if _under(name, (upper,))
        ]
        assert users == []


@pytest.mark.parametrize(
    "code",
    [
        "from bench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from bench.cli import main\ntry: main(['status', '--out', 'results/suites'])\nexcept SystemExit: pass",
        "import pkgutil, importlib, bench.reports as r\n"
        "for m in pkgutil.walk_packages(r.__path__, 'bench.reports.'): importlib.import_module(m.name)",
    ],
    ids=["bench --help", "bench status", "bench.reports"],
)
def test_light_parts_import_neither_torch_nor_plugins(code: str) -> None:
    show = "\nimport sys; print('loaded:', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code + show], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "bench" in loaded
    assert {"torch", *PLUGINS} & set(loaded) == set()


def test_an_installation_claims_no_name_but_bench() -> None:
    """The folders of the methods are packages within it, each once."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = find_packages(str(ROOT), **config["packages"]["find"])
    assert set(PLUGINS) < set(packages)
    assert not [name for name in packages if not _under(name, ("bench",))]
    for folder in FOLDERS:
        assert (ROOT / "bench" / folder).samefile(ROOT / folder)


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
        for module, path in _modules(package)
        if module != "bench.data.cifar"
        for problem in (*_unsafe(path), *(name for name in _imports(module, path) if _under(name, picklers)))
    ]
    assert found == []


def test_code_that_reads_unsafely_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("torch.load(x)\nnp.load(x, allow_pickle=True)\ntorch.load(x, weights_only=True)\ntar.extractall(x)\n")
    assert [problem.split(":")[1] for problem in _unsafe(file)] == ["1", "2", "4"]


def test_an_arrow_that_points_back_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("from . import b\nfrom ..c import d\nimport e.f\ndef g():\n    import_module('h')\n")
    assert list(_imports("x.y.module", file)) == ["x.y.b", "x.c.d", "e.f", "h"]
