"""--config, and the file that repeats a request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

import bench
from bench.interface.build import build_matrices
from bench.interface.config_file import config_text, load_config
from bench.interface.options import RunOptions
from bench.interface.toml import toml_text
from tests.data.downstream_maker import make_cifar
from tests.e2e.conftest import SIZES, Bench
from tests.e2e.conftest import bench as command_line  # noqa: F401  a fixture

SET = [*SIZES, "train.epochs=1", "train.batch_size=64"]
ODD = ['attack.badnet.target=say "cat\\"', "train.lr=1e-3", "defense.clip_filter.model = ViT-B-32:openai"]
RECIPE = 'base = "small"\n[train]\nepochs = 1\nbatch_size = 64\n[attack]\nrate = 0.05\n'
PLUGIN = '''
from bench.registry import register_defense
from bench.defenses.clip import CLIP

@register_defense("mine")
class Mine(CLIP):
    """Plain CLIP under another name."""
'''


def _pairs(folder: Path) -> None:
    folder.mkdir()
    rows = ["filepath,title"]
    for number in range(60):
        Image.new("RGB", (20, 20), (4 * number, 200, 10)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,a picture of a tench {number}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


COMMANDS: dict[str, dict[str, Any]] = {
    "defaults": {"set": SET},
    "names, seeds, controls": {
        "defense": "clip,safeclip", "attack": ["none", "badnet"], "seeds": [1, 2], "controls": True, "set": SET,
    },
    "a recipe by name": {"recipe": "small", "set": SET, "precision": "fp32"},
    "a recipe by file": {"recipe": "mine.toml", "set": [*SIZES], "attack": "badnet"},
    "a recipe in place": {"recipe": {"base": "small", "train": {"epochs": 2}}, "set": [*SIZES], "attack": "badnet"},
    "a plugin": {"plugin": "plugin.py", "defense": ["mine"], "set": SET},
    "a suite": {"suite": "table14,figure1", "data": "scenes", "set": SET, "evaluator": "asr"},
    "a suite by a recipe": {"suite": "table14", "data": "scenes", "recipe": "mine.toml", "set": [*SIZES]},
    "data and roots": {
        "data": "csv:pairs", "downstream_root": "sets", "attack": "none", "model": "small-64", "evaluator": "zero_shot",
    },
    "odd values": {"set": [*SET, *ODD], "attack": "none"},
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_file_of_a_request_asks_for_the_same(
    registries: None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.interface.plugins import load_plugins

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    Path("mine.toml").write_text(RECIPE)
    Path("plugin.py").write_text(PLUGIN)
    _pairs(Path("pairs"))
    make_cifar(Path("sets"), monkeypatch)
    asked = RunOptions.of(COMMANDS[name])
    load_plugins(asked.plugin)
    first = build_matrices(asked, Console(quiet=True)).requests
    (there / "again.toml").write_text(config_text(asked))
    Path("mine.toml").unlink()
    monkeypatch.chdir(there)
    again = RunOptions.of(load_config("again.toml"))
    assert build_matrices(again, Console(quiet=True)).requests == first
    assert config_text(again) == (there / "again.toml").read_text()


def test_every_results_folder_holds_it(command_line: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(RECIPE)
    options = [word for option in SIZES for word in ("--set", option)]
    done = command_line(
        "run", "--recipe", "mine.toml", *options, "--attack", "none", "--evaluator", "zero_shot", "--out", "out"
    )
    assert done.code == 0, done.err
    (file,) = Path("out/requests").glob("*.toml")
    assert file.with_suffix(".json").is_file()
    Path("mine.toml").unlink()
    before = sorted(path for path in Path("out").rglob("*"))
    again = command_line("run", "--config", file, "--out", "out")
    assert again.code == 0, again.err
    assert "already on record" in again.out
    assert sorted(path for path in Path("out").rglob("*")) == before


def test_the_command_line_wins(command_line: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    file = tmp_path / "experiment.toml"
    file.write_text('attack = "badnet"\nseeds = [1, 2]\ndry-run = true\n[set.train]\nepochs = 3\nbatch_size = 64\n')
    heard: dict[str, Any] = {}
    monkeypatch.setattr(bench, "run", lambda **given: heard.update(given) or bench.Results(Path(), (), {}), raising=False)
    assert command_line("run", "--config", file, "--seeds", "7", "--set", "train.epochs=1").code == 0
    options = RunOptions.of(heard)
    assert (options.attack, options.seeds, options.dry_run) == (("badnet",), (7,), True)
    assert options.set == ("train.epochs=3", "train.batch_size=64", "train.epochs=1")
    assert options.defense == ("clip",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('attak = "badnet"', "unknown option 'attak'; did you mean 'attack'?"),
        ("data_rot = 1", "unknown option 'data_rot'; did you mean 'data_root'?"),
        ("seeds = [1.5]", "--seeds 1.5: expected integers"),
        ("attack = 3", "expected a name or a list of names"),
        ('executor = "slurm"', "--executor: Input should be 'local', 'ray' or 'submitit', got 'slurm'"),
        ("controls = 7", "--controls: "),
        ("attack = ", "is not TOML: "),
        ("[recipe.trian]\nepochs = 2", "unknown section 'trian'; did you mean 'train'?"),
        ('config = "other.toml"', "unknown option 'config'"),
    ],
)
def test_a_bad_file_is_named(command_line: Bench, tmp_path: Path, text: str, words: str) -> None:  # noqa: F811
    file = tmp_path / "experiment.toml"
    file.write_text(text)
    done = command_line("run", "--config", file)
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert done.err.startswith(f"bench: --config {file}: ")
    assert words in done.err


def test_a_file_that_is_not_there(command_line: Bench, tmp_path: Path) -> None:  # noqa: F811
    done = command_line("run", "--config", tmp_path / "none.toml")
    assert (done.code, done.err) == (
        2,
        f"bench: --config {tmp_path / 'none.toml'}: cannot be read (No such file or directory); name a TOML file\n",
    )


def test_toml_reads_back() -> None:
    import tomllib

    tree = {
        "text": 'a "quoted" \\ path\n\t\x7f\x01 ü 🙂',
        "numbers": [1, -2.5, 1e-7, True],
        "long": [f"a rather long text of number {number}" for number in range(9)],
        "odd key": {"": 1, "a.b": {"c": [{"d": 1}]}, "empty": {}},
    }
    assert tomllib.loads(toml_text(tree)) == json.loads(json.dumps(tree))


def test_the_page_on_configuration_files(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "experiment.toml").write_text(text)
    assert load_config(tmp_path / "experiment.toml") == {
        "attack": ("badnet", "tdpa"),
        "defense": ("clip", "safeclip"),
        "seeds": (0, 1, 2),
        "data": "csv:pairs.csv",
        "recipe": "small",
        "controls": True,
        "set": ("train.epochs=12", "attack.badnet.patch=40"),
    }
