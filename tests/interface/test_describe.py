"""`bench describe` and `bench cite`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import plugins, recipe, references
from bench.api import Dataset
from bench.registry import KINDS
from tests.e2e.conftest import Bench
from tests.e2e.conftest import bench as command_line  # noqa: F401  a fixture
from tests.reports.records_maker import make

plugins.load()
EVERY = [(kind, entry.plugin) for kind, registry in KINDS.items() for entry in registry if entry.origin.startswith("built-in")]
PLUGIN = '''
from pydantic import Field
from bench.api import Params
from bench.registry import register_dataset, register_defense
from bench.defenses.clip import CLIP
from bench.data.scenes.dataset import ScenesDataset

class MineParams(Params):
    share: float = Field(default=0.5, gt=0, le=1, description="what is kept")
    how: str | None = Field(default=None, description="a word")

@register_defense("mine")
class Mine(CLIP):
    """Keeps a share (Nobody 2024).

    Deviations: none.
    """

    Params = MineParams
    citations = ("radford2021clip", "@misc{nobody, title = {A {T}itle}, author = \\"No Body\\", year = 2024}")

@register_defense("heir")
class Heir(Mine):
    """Another (Nobody 2024)."""

@register_dataset("photos")
class Photos(ScenesDataset):
    """Photographs."""

    recipes = ("photos.toml", "photos-short.toml")
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "photos.toml").write_text('# Photographs on two cores.\nbase = "small"\n[train]\nepochs = 7\n')
    (tmp_path / "photos-short.toml").write_text('base = "photos.toml"\n[train]\nepochs = 3\n')
    return tmp_path / "mine.py"


@pytest.mark.parametrize(("kind", "plugin_class"), EVERY, ids=[plugin.name for _, plugin in EVERY])
def test_every_built_in_is_described(command_line: Bench, kind: str, plugin_class: type) -> None:  # noqa: F811
    done = command_line("describe", plugin_class.name)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{plugin_class.name}: {KINDS[kind].kind}, version {plugin_class.version} [built-in ")
    assert plugin_class.summary() in done.out
    cited = references.for_plugin(plugin_class)
    assert cited or issubclass(plugin_class, Dataset)
    assert bool(cited) == ("Paper: none cited" not in done.out)
    words = " ".join(done.out.split())
    for entry in cited:
        assert " ".join(entry.line().split()) in words
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"])
    for name, field in plugin_class.Params.model_fields.items():
        assert re.search(rf"^  {name} ", done.out, re.MULTILINE)
        assert " ".join(str(field.description).split()) in words


def test_what_is_said_of_an_option(command_line: Bench, plugin: Path) -> None:  # noqa: F811
    said = command_line("describe", "mine", "--plugin", plugin).out
    assert said.splitlines()[:4] == [
        f"mine: defense, version 1 [--plugin {plugin}]",
        "Keeps a share (Nobody 2024).",
        "",
        "Deviations: none.",
    ]
    assert "Options (--set defense.mine.OPTION=VALUE):" in said
    assert re.search(r"^  share +float > 0, <= 1 +0\.5 +what is kept$", said, re.MULTILINE)
    assert re.search(r"^  how +str or none +none +a word$", said, re.MULTILINE)
    assert "Body. A Title, 2024." in said


def test_papers_are_not_inherited(command_line: Bench, plugin: Path) -> None:  # noqa: F811
    assert "Paper: none cited" in command_line("describe", "heir", "--plugin", plugin).out


def test_recipes_that_a_plugin_brings_along(command_line: Bench, plugin: Path, tmp_path: Path) -> None:  # noqa: F811
    listed = command_line("list", "recipes", "--plugin", plugin).out
    assert re.search(r"^  photos +Photographs on two cores\.  \[.*/photos\.toml\]$", listed, re.MULTILINE)
    said = command_line("describe", "photos", "--plugin", plugin).out
    assert "photos: data set" in said
    assert "photos: recipe\nPhotographs on two cores." in said
    assert recipe.for_data("photos").tree["train"]["epochs"] == 7
    assert recipe.load("photos-short").tree["train"]["epochs"] == 3
    assert recipe.load("photos").tree["model"] == recipe.load("small").tree["model"]
    assert command_line("check", plugin).out.count("ok      recipes are read") == 3
    (tmp_path / "photos-short.toml").unlink()
    assert "FAILED  recipes are read" in command_line("check", plugin).out


def test_a_recipe_of_a_name_that_is_taken(command_line: Bench, plugin: Path) -> None:  # noqa: F811
    plugin.write_text(PLUGIN.replace("photos-short.toml", "small.toml"))
    done = command_line("run", "--plugin", plugin, "--data", "photos", "--dry-run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"the name of recipe 'small' is taken; rename {plugin.with_name('small.toml')}" in done.err


def test_a_recipe_is_described(command_line: Bench) -> None:  # noqa: F811
    said = command_line("describe", "cifar10").out
    assert "cifar10: data set" in said
    assert "cifar10: recipe\nCIFAR-10 on CPU cores: not calibrated." in said
    assert '[model]\nname = "scenes-small"' in said


def test_an_unknown_name(command_line: Bench) -> None:  # noqa: F811
    assert "nothing is named 'safeclp'; did you mean 'safeclip'?" in command_line("describe", "safeclp").err
    done = command_line("cite", "safeclp")
    assert (done.code, done.out) == (2, "")
    assert "nothing is named 'safeclp'; did you mean 'safeclip'?" in done.err


def test_what_a_defense_cost(command_line: Bench, tmp_path: Path) -> None:  # noqa: F811
    """The committed records: SafeCLIP's seconds over plain CLIP's, cell by cell, read here without the library."""
    import json
    from statistics import fmean

    root = Path(__file__).parents[2] / "results" / "reference-0.1"
    spent: dict[str, dict[str, float]] = {"clip": {}, "safeclip": {}}
    for file in root.glob("runs/*/run.json"):
        record = json.loads(file.read_text())
        name, cell = record["spec"]["defense"]["name"], json.dumps([record["spec"]["attack"], record["spec"]["seed"]])
        if name in spent:
            spent[name][cell] = sum(record["timing"]["stages"].values())
    ratios = [seconds / spent["clip"][cell] for cell, seconds in spent["safeclip"].items()]
    said = command_line("describe", "safeclip", "--out", root).out
    assert f"Cost: {fmean(ratios):.2f} times the time of plain CLIP (mean of {len(ratios)} cells, {min(ratios):.2f} to" in said


def _keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)


def test_cite_names(command_line: Bench, plugin: Path) -> None:  # noqa: F811
    assert _keys(command_line("cite", "safeclip", "asr", "badnet").out) == ["yang2024safeclip", "gu2017badnets"]
    text = command_line("cite", "mine", "--plugin", plugin).out
    assert _keys(text) == ["radford2021clip", "nobody"]
    assert [entry.key for entry in references.parse_bibtex(text)] == ["radford2021clip", "nobody"]


def test_cite_a_folder(command_line: Bench, tmp_path: Path) -> None:  # noqa: F811
    make(tmp_path / "out")
    done = command_line("cite", tmp_path / "out")
    assert done.code == 0
    found = _keys(done.out)
    assert found[:2] == ["bench", "openclip"]
    assert {"gu2017badnets", "nguyen2021wanet", "radford2021clip", "yang2024safeclip"} <= set(found)
    assert len(found) == len(set(found))
    assert "bansal2023cleanclip" not in found
    assert "not installed, so not cited: attack '<script>" in done.err


@pytest.mark.parametrize(
    ("citation", "words"),
    [
        ("yang2024safeclp", "cites 'yang2024safeclp', which is neither BibTeX nor a key of bench/references.bib; did you mean"),
        ("@misc{key, title = {open}", "has an invalid BibTeX citation: unclosed brace"),
        ("@", "has an invalid BibTeX citation: write @misc"),
    ],
)
def test_a_bad_citation(command_line: Bench, plugin: Path, citation: str, words: str) -> None:  # noqa: F811
    plugin.write_text(PLUGIN.replace('"radford2021clip"', repr(citation)))
    assert words in command_line("describe", "mine", "--plugin", plugin).err
    assert f"FAILED  citations are bibtex: mine {words}" in command_line("check", plugin).out


def test_bibtex_is_read() -> None:
    text = '@article{a:b, title = {The {BIG} one, and = more}, author="X, Y and Z, W" , year=1999,\n note = {}}'
    text += "\n@misc{c, year = {2000}}"
    first, second = references.parse_bibtex(text)
    assert first.fields == {"title": "The {BIG} one, and = more", "author": "X, Y and Z, W", "year": "1999", "note": ""}
    assert first.line() == "X & Z. The BIG one, and = more, 1999."
    assert (second.key, second.fields) == ("c", {"year": "2000"})


def test_the_file_of_references_is_sorted_out() -> None:
    text = (Path(references.__file__).with_name(references.FILE)).read_text()
    entries = references.parse_bibtex(text)
    assert len({entry.key for entry in entries}) == len(entries) == text.count("\n@") + 1
    cited = {key for _, plugin in EVERY for key in vars(plugin).get("citations", ())}
    assert {entry.key for entry in entries} == cited | set(references.ALWAYS_CITED)
