"""Recipes by name and by file, with their bases, and what is said of bad ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bench import plugins, recipe
from bench.config import Settings
from bench.errors import UserError
from bench.matrix.expand import Matrix, MatrixRequest, expand
from bench.registry import attacks, defenses

from .small import SIZES

plugins.load()

MINE = """
base = "small"
[train]
epochs = 12
[attack]
rate = 0.05
[defense.safeclip]
pool = 32
"""


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def small(name: str | None, *options: str, chosen: tuple[str, ...] = ("badnet",), model: str | None = None) -> Matrix:
    options = (*SIZES, *options)
    return expand(
        MatrixRequest("scenes", chosen, ["clip", "safeclip"], ["zero_shot"], options=options, recipe=name, model=model)
    )


def settings(name: str, *options: str, model: str | None = None) -> Settings:
    return Settings("scenes", options, model, recipe.load(name))


def test_a_recipe_replaces_that_of_the_data_set() -> None:
    own, named = Settings("scenes"), settings("small")
    assert (own.train().epochs, named.train().epochs) == (8, 24)
    published = settings("published")
    badnets = [each.plugin("attack", attacks["badnet"], attacks).params["rate"] for each in (own, published)]
    assert badnets == [0.01, 0.0005]
    pools = [each.plugin("defense", defenses["safeclip"], defenses).params["pool"] for each in (own, named, published)]
    assert pools == [4096, 4096, 256]
    assert Settings("nobody's").train() == settings("published").train()


def test_model_and_set_options_win() -> None:
    mine = settings("small", "train.epochs=3", "attack.badnet.rate=0.5", model="small-64")
    assert (mine.model.name, mine.train().epochs, mine.train().batch_size) == ("small-64", 3, 64)
    assert mine.plugin("attack", attacks["badnet"], attacks).params["rate"] == 0.5


def test_a_file_on_top_of_its_bases(tmp_path: Path) -> None:
    write(tmp_path / "below" / "mine.toml", MINE)
    top = write(tmp_path / "top.toml", 'base = "below/mine.toml"\n[defense]\nsafeclip.growth = 0.6\n[train]\nlr = 0.001\n')
    found = settings(top)
    train = found.train()
    assert (found.model.name, train.epochs, train.lr, train.batch_size) == ("scenes-small", 12, 1e-3, 64)
    params = found.plugin("defense", defenses["safeclip"], defenses).params
    assert (params["pool"], params["growth"], params["low_lr"]) == (32, 0.6, 0.1)
    assert found.plugin("attack", attacks["badnet"], attacks).params["patch"] == 56
    (tmp_path / "alone.toml").write_text("[train]\nepochs = 2\nbatch_size = 8\nlr = 1e-3\n[model]\nname = 'small-64'\n")
    assert settings(str(tmp_path / "alone.toml")).plugin("attack", attacks["badnet"], attacks).params["patch"] == 16


def test_keys_are_those_of_the_same_values_by_set(tmp_path: Path) -> None:
    by_file = small(write(tmp_path / "mine.toml", MINE))
    by_set = small("small", "train.epochs=12", "attack.rate=0.05", "defense.safeclip.pool=32")
    others = small("small", "train.epochs=12", "attack.rate=0.05")
    assert [cell.key for cell in by_file.cells] == [cell.key for cell in by_set.cells]
    assert [cell.key for cell in by_file.cells] != [cell.key for cell in others.cells]
    assert {cell.recipe for cell in by_file.as_request().cells} == {str(tmp_path / "mine.toml")}
    named, own = small("scenes"), small(None)
    assert [cell.key for cell in named.cells] == [cell.key for cell in own.cells]
    assert all("recipe" not in cell.dump() for cell in own.as_request().cells)


def test_what_a_worker_gets_holds_the_recipe_itself(tmp_path: Path) -> None:
    file = Path(write(tmp_path / "mine.toml", MINE))
    source = small(str(file)).workspace.source.absolute()
    sent = pickle.dumps(source)
    file.unlink()
    after = pickle.loads(sent)
    assert (after, hash(after)) == (source, hash(source))
    assert Settings(*after.settings_args).train().epochs == 12
    assert source != small("small").workspace.source.absolute()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train = ", "mine.toml: is not TOML"),
        ('base = "smal"', "mine.toml: base = smal: no such recipe; did you mean 'small'?"),
        ("base = 3", "mine.toml: base: expected the name or file"),
        ('base = "mine.toml"', "its bases form a cycle: "),
        ('base = "none.toml"', "none.toml: no such file"),
        ('base = "small"\n[trian]\nepochs = 3', "mine.toml: unknown section 'trian'; did you mean 'train'"),
        ('base = "small"\nepochs = 3', "mine.toml: unknown section 'epochs'"),
        ('base = "small"\ntrain = 3', "mine.toml: train is a section: put its options under [train]"),
        ('base = "small"\n[train]\nepoch = 3', "mine.toml: train.epoch: unknown option 'epoch'; did you mean 'epochs'"),
        ('base = "small"\n[train]\nepochs = 0', "mine.toml: train.epochs: "),
        ('base = "small"\n[train]\nlr = inf', "mine.toml: train.lr: expected a finite number, got inf"),
        ("[model]\nname = 'RN50'\n[train]\nepochs = 1\nlr = 1e-3", "mine.toml: train.batch_size is missing"),
        ('base = "small"\n[model]\nname = "RN55"', "mine.toml: model.name: unknown model 'RN55'; did you mean 'RN50'"),
        ('base = "small"\n[model]\nnam = "RN50"', "mine.toml: model.nam: unknown option 'nam'; did you mean 'name'"),
        ('base = "small"\n[data]\ntrane = 3', "mine.toml: data.trane: unknown option 'trane'; did you mean 'train'"),
        ('base = "small"\n[attack]\nrat = 1', "mine.toml: attack.rat: unknown option 'rat'; did you mean 'rate'"),
        ('base = "small"\n[attack]\nbadnets.rate = 1', "mine.toml: attack.badnets: unknown option 'badnets'; did you"),
        ('base = "small"\n[attack]\nbadnet = 1', "mine.toml: attack.badnet: append one of its options"),
        ('base = "small"\n[attack]\nrate = 2', "mine.toml: attack.badnet.rate: "),
        ('base = "small"\n[attack.sig]\nfrequencies = 2', "mine.toml: attack.sig.frequencies: unknown option 'frequencies'"),
        ('base = "small"\n[defense.roclip]\nevery = "two"', "mine.toml: defense.roclip.every: "),
        ('base = "small"\n[evaluator]\nsteps = 2', "mine.toml: evaluator.steps: unknown option 'steps'"),
    ],
)
def test_a_bad_recipe_is_named_with_its_option(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        small(write(tmp_path / "mine.toml", text))
    assert words in str(refused.value)
    assert str(refused.value).startswith("--recipe ")
    assert "\n" not in str(refused.value)


def test_the_file_is_named_that_gave_the_option(tmp_path: Path) -> None:
    write(tmp_path / "below.toml", 'base = "small"\n[defense.safeclip]\npool = 0\n')
    top = write(tmp_path / "top.toml", 'base = "below.toml"\n[train]\nepochs = 3\n')
    with pytest.raises(UserError, match=r"--recipe \S+below.toml: defense.safeclip.pool: "):
        small(top)
    with pytest.raises(UserError, match=r"^--set train.epochs: "):
        small("small", "train.epochs=0")
    with pytest.raises(UserError, match=r"^--set attack.badnet.rate: "):
        small("small", "attack.rate=7")


def test_a_value_of_the_user_for_one_attack_is_not_held_against_the_recipe_of_another() -> None:
    small("small", "attack.patch=150", "attack.rate=0.05")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smal", "--recipe smal: no such recipe; did you mean 'small'?"),
        ("zzz", "--recipe zzz: no such recipe; known: cc100k, "),
        ("no/such.toml", "--recipe no/such.toml: no such file"),
        ("small.toml", "--recipe small.toml: no such file; built-in recipes are given by name (did you mean 'small'?)"),
    ],
)
def test_an_unknown_recipe(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        recipe.load(name)
    assert words in str(refused.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        recipe.load(str(tmp_path / "binary.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        recipe.load(str(tmp_path / "folder.toml"))
