"""Imports point one way."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.source_files import ROOT, imports, modules, under

FOLDERS = ("attacks", "defenses", "evaluators")
PLUGINS = tuple(f"bench.{folder}" for folder in FOLDERS)
OPEN_TO_PLUGINS = ("bench.api", "bench.data", "bench.models", "bench.testing", "bench.registry", "bench.errors")

RECORDS = (
    "bench.matrix.schema",
    "bench.matrix.request_schema",
    "bench.matrix.reading",
    "bench.matrix.store",
    "bench.matrix.old_records",
    "bench.matrix.predictions",
)

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
    "bench.cores": ("bench.errors",),
    "bench.shutdown": ("bench.errors",),
    "bench.disk": ("bench.errors",),
    "bench.references": ("bench.errors",),
    "bench.api": ("bench.canonical", "bench.intervals", "bench.meaning"),
    "bench.registry": ("bench.api", "bench.errors", "bench.sources"),
    "bench.plugins": ("bench.registry", "bench.errors"),
    "bench.recipe": ("bench.registry", "bench.errors"),
    "bench.data": ("bench.api", "bench.cores", "bench.registry", "bench.errors", "bench.text"),
    "bench.models": ("bench.api", "bench.canonical", "bench.data", "bench.errors"),
    "bench.config": (
        "bench.api",
        "bench.canonical",
        "bench.errors",
        "bench.models",
        "bench.recipe",
        "bench.registry",
        "bench.sources",
        "bench.text",
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
        "bench.cores",
        "bench.data",
        "bench.errors",
        "bench.matrix",
        "bench.models",
        "bench.plugins",
        "bench.shutdown",
        "bench.training",
    ),
    "bench.cluster": ("bench.console", "bench.errors", "bench.matrix", "bench.text"),
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
        "bench.cores",
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
    "bench.submission": (
        "bench.__version__",
        "bench.api",
        "bench.canonical",
        "bench.config",
        "bench.disk",
        "bench.errors",
        "bench.interface",
        "bench.matrix",
        "bench.models",
        "bench.registry",
        "bench.reports",
        "bench.shutdown",
        "bench.sources",
        "bench.training",
    ),
    "bench.leaderboard": (
        "bench.canonical",
        "bench.disk",
        "bench.errors",
        "bench.interface",
        "bench.matrix",
        "bench.registry",
        "bench.reports",
        "bench.submission",
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
    "bench.matrix.schema": ("bench.canonical", "bench.matrix.reading", "bench.meaning"),
    "bench.matrix.request_schema": ("bench.canonical", "bench.errors", "bench.matrix.schema", "bench.suites"),
    "bench.matrix.reading": ("bench.text",),
    "bench.matrix.store": ("bench.canonical", "bench.disk", "bench.errors", *RECORDS[:3]),
    "bench.matrix.old_records": ("bench.matrix.schema", "bench.meaning"),
    "bench.matrix.predictions": ("bench.errors",),
    "bench.reports": (*(name for name in LAYERS["bench.reports"] if name != "bench.matrix"), *RECORDS),
}


def _offences(package: str, allowed: tuple[str, ...]) -> list[str]:
    ours = ("bench", *FOLDERS)
    return [
        f"{module} imports {name}"
        for module, path in modules(package)
        for name in imports(module, path)
        if under(name, ours) and not under(name, (package, *allowed))
    ]


@pytest.mark.parametrize("package", PLUGINS)
def test_plugins_use_the_contracts_only(package: str) -> None:
    assert len(list(modules(package))) > 1
    assert _offences(package, OPEN_TO_PLUGINS) == []


def test_the_engine_knows_no_plugin() -> None:
    found = [
        f"{module} imports {name}"
        for module, path in modules("bench")
        if not under(module, PLUGINS)
        for name in imports(module, path)
        if under(name, (*PLUGINS, *FOLDERS))
    ]
    assert found == []


@pytest.mark.parametrize(("package", "allowed"), [*LAYERS.items(), *PARTS.items()], ids=[*LAYERS, *PARTS])
def test_layers(package: str, allowed: tuple[str, ...]) -> None:
    assert list(modules(package))
    assert _offences(package, allowed) == []


def test_every_part_of_the_engine_has_a_layer_above_those_that_it_uses() -> None:
    parts = {".".join(module.split(".")[:2]) for module, _ in modules("bench")} - {"bench", "bench.__main__", *PLUGINS}
    assert parts == set(LAYERS)
    names = list(LAYERS)
    for number, (_, allowed) in enumerate(LAYERS.items()):
        used = {name for name in allowed if not name.startswith("bench.__") and name != "bench"}
        assert used <= set(names[:number])


def test_only_the_command_line_knows_the_command_line_and_the_checks() -> None:
    for upper in ("bench.cli", "bench.testing"):
        users = [
            module
            for module, path in modules("bench")
            if not under(module, (upper, "bench.cli", "bench.__main__"))
            for name in imports(module, path)
            if under(name, (upper,))
        ]
        assert users == []


@pytest.mark.parametrize(
    "code",
    [
        "from bench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from bench.cli import main\ntry: main(['status', '--out', 'results/suites'])\nexcept SystemExit: pass",
        "import bench; bench.load_predictions('results/reference')",
        "import pkgutil, importlib, bench.reports as r\n"
        "for m in pkgutil.walk_packages(r.__path__, 'bench.reports.'): importlib.import_module(m.name)",
    ],
    ids=["bench --help", "bench status", "bench.load_predictions", "bench.reports"],
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
    assert not [name for name in packages if not under(name, ("bench",))]
    for folder in FOLDERS:
        assert (ROOT / "bench" / folder).samefile(ROOT / folder)


def test_an_arrow_that_points_back_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("from . import b\nfrom ..c import d\nimport e.f\ndef g():\n    import_module('h')\n")
    assert list(imports("x.y.module", file)) == ["x.y.b", "x.c.d", "e.f", "h"]
