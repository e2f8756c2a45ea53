"""Suites from files: error messages, runs, and what a results folder stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.matrix.suites import SuitePlan, SuiteRequest, expand_suites
from bench.registry import register_defense
from bench.suites.library import from_record, load, resolve
from tests.engine.small import raw

SIZES = ("data.train=256", "data.holdout=64", "data.test=64", "data.probe_train=64")
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "suites").glob("*.toml"))
MINE = """
title = "Defenses"
headers = ["method"]
base = { data = "cc3m", attack = "badnet", metric = "asr" }
columns = [ { label = "ASR" }, { label = "CA", metric = "zero_shot" } ]

[paper]
authors = "Doe et al."
year = 2025

[[rows]]
label = ["CLIP"]
published = [90, 30.5]

[[rows]]
label = ["RoCLIP"]
defense = "roclip"
published = ["-", ""]
"""
VARIANT = '[defenses.x]\nplugin = "safeclip"\n'


@pytest.fixture(autouse=True)
def _in_a_folder(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "mine.toml") -> str:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


def plan_of(text: str, **more: Any) -> SuitePlan:
    return expand_suites(SuiteRequest(resolve([written(text)]), **{"data": "scenes", "options": SIZES, **more}))


def test_the_cells_are_those_that_a_built_in_suite_would_have() -> None:
    (mine,) = plan_of(MINE).suites
    assert list(mine.runs) == ["cc3m | badnet | clip", "cc3m | badnet | roclip"]
    (table1,) = expand_suites(SuiteRequest(resolve(["table1"]), data="scenes", options=SIZES)).suites
    assert all(table1.runs[name] == keys for name, keys in mine.runs.items())
    assert mine.suite.reference == "mine of Doe et al. 2025"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "Defenses"', "title = [", "is not TOML"),
        ('title = "Defenses"', "", "title is missing"),
        ("title =", "titel = 1\ntitle =", "titel: unknown key; did you mean 'title'?"),
        ("title =", 'name = "x"\ntitle =', "unknown key 'name'; the name of a suite is that of its file"),
        ("[90, 30.5]", "[90]", "row 'CLIP': 1 published values for 2 columns"),
        ("[90, 30.5]", '[90, "30"]', "row 'CLIP', value 2 of published: expected a number, \"-\" (blank in the paper) or"),
        ("[90, 30.5]", "[true, 30]", "row 'CLIP', value 1 of published"),
        ("[90, 30.5]", "[nan, 30]", "row 'CLIP', value 1 of published"),
        ('["RoCLIP"]', '"RoCLIP"', "row 'RoCLIP', label: Input should be a list"),
        ('["RoCLIP"]', '["RoCLIP", "2"]', "row 'RoCLIP / 2': 2 labels for 1 headers"),
        ('label = "CA",', "", "column 2, label is missing"),
        ('"roclip"', '"rocilp"', "row 'RoCLIP', column 'ASR': unknown defense 'rocilp' (did you mean 'roclip'?)"),
        ('"badnet"', '"badnett"', "row 'CLIP', column 'ASR': unknown attack 'badnett' (did you mean 'badnet'?)"),
        ('attack = "badnet", ', "", "row 'CLIP', column 'ASR': no attack for the ASR"),
        ('data = "cc3m", ', "", "row 'CLIP', column 'ASR': no data set"),
        ('"zero_shot"', '"zero_shoot"', "column 'CA', metric: unknown metric 'zero_shoot'; did you mean 'zero_shot'?"),
        ("year = 2025", "", "paper.year is missing"),
        (
            "year = 2025",
            'year = 2025\nlink = "javascript:alert(1)"',
            "paper.link: expected an address that begins with https://",
        ),
        ("year = 2025", "year = 2025\ncite = 'a}b'", "paper.cite: expected a BibTeX key"),
        ('[paper]\nauthors = "Doe et al."\nyear = 2025', 'paper = "safecilp"', "did you mean 'safeclip'?"),
        ('data = "cc3m"', 'data = "cc3m", model = "RN51"', "--model RN51: unknown model; did you mean 'RN50'?"),
    ],
)
def test_errors_are_one_sentence_with_their_position(old: str, new: str, words: str) -> None:
    assert MINE.count(old) >= 1
    with pytest.raises(UserError) as refused:
        plan_of(MINE.replace(old, new))
    said = str(refused.value)
    assert said.startswith("--suite mine.toml: ")
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            VARIANT + "shares.unimodal = 5",
            "shares and epochs refer to the epochs of the paper: set paper.epochs",
        ),
        (VARIANT + "set.unimodel = 5", "[defenses.\"x\"] set: safeclip has no option 'unimodel'; did you mean 'unimodal'?"),
        (VARIANT + "set.unimodal = 'a'", '[defenses."x"] set: unimodal: Input should be a valid number'),
        (VARIANT + "scaled.use_pool = 1", "scaled: use_pool of safeclip is not a number; give its value under set"),
        (VARIANT.replace("safeclip", "safeclp"), "[defenses.\"x\"] plugin: unknown defense 'safeclp'"),
        ("[attacks.x]\nplugin = 'badnet'\nrates = 1", "attacks.x.rates: unknown key; did you mean 'rate'?"),
        ("[attacks.x]\nplugin = 'badnet'\nset.patch = -1", '[attacks."x"] set: patch: Input should be greater than 0'),
        ("[unsupported]\ndefenses = ['par']", "unsupported.defenses: the suite has no 'par'"),
        ("[substitutes.scenes.attacks]\nbadnett = []", "the suite has no 'badnett'; did you mean 'badnet'?"),
        ("[substitutes.scenes.data]\ncc3m = ['data.trian=1']", "--set data.trian: unknown option 'trian'"),
    ],
)
def test_a_fault_in_a_section(section: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        plan_of(f"{MINE}\n{section}")
    assert str(refused.value).startswith("--suite mine.toml: ")
    assert words in str(refused.value)


def test_invalid_files_and_names() -> None:
    for name in ("table1.toml", "results.toml", "all.toml", "my suite.toml"):
        with pytest.raises(UserError, match=f"--suite {name}: .*name"):
            resolve([written(MINE, name)])
    first, second = written(MINE, "mine.toml"), written(MINE, "sub/mine.toml")
    with pytest.raises(UserError, match=r"--suite sub/mine\.toml: has the same name as mine\.toml, mine; rename one"):
        resolve([first, second])
    assert len(resolve([first, f"./{first}"])) == 1
    with pytest.raises(UserError, match=r"--suite none\.toml: no such file"):
        resolve(["none.toml"])
    Path("latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(UserError, match=r"latin\.toml: is not UTF-8"):
        resolve(["latin.toml"])
    Path("sub.toml").mkdir()
    with pytest.raises(UserError, match=r"--suite sub\.toml: cannot be read"):
        resolve(["sub.toml"])


def test_what_no_plugin_provides_is_declared_and_runs_where_one_does() -> None:
    text = MINE.replace('"roclip"', '"of_tomorrow"') + '[unsupported]\ndefenses = ["of_tomorrow"]\n'
    (planned,) = plan_of(text.replace('["-", ""]', "[7, 8]")).suites
    assert planned.reasons == {"cc3m | badnet | of_tomorrow": "no plugin named of_tomorrow"}
    assert "cc3m | badnet | clip" in planned.runs
    from bench.defenses.clip import CLIP

    register_defense("of_tomorrow")(type("Par", (CLIP,), {"__module__": CLIP.__module__}))
    (planned,) = plan_of(text.replace('["-", ""]', "[7, 8]")).suites
    assert planned.reasons == {}
    assert "cc3m | badnet | of_tomorrow" in planned.runs


def test_a_suite_without_any_supported_method_is_stored_too() -> None:
    text = MINE.replace('"badnet"', '"new_trigger"') + '[unsupported]\nattacks = ["new_trigger"]\n'
    plan = plan_of(text)
    assert plan.matrices == ()
    assert set(raw(plan.requests[0])["suite"]["reasons"].values()) == {"no plugin named new_trigger"}


def test_numbers_are_scaled_from_those_of_its_paper() -> None:
    rows = """
[[rows]]
label = ["twice"]
attack = "badnet twice"
defense = "safeclip half"
published = [1, ""]
[attacks."badnet twice"]
plugin = "badnet"
rate = 0.001
set = { place = "corner" }
[defenses."safeclip half"]
plugin = "safeclip"
epochs = 10
shares = { unimodal = 4 }
scaled = { low_lr = 0.02 }
"""
    plan = plan_of(MINE.replace("year = 2025", "year = 2025\nepochs = 20") + rows)
    (key,) = plan.suites[0].runs["cc3m | badnet twice | safeclip half"]
    spec = plan.suites[0].cells[key].spec
    recipe = plan.suites[0].cells[plan.suites[0].runs["cc3m | badnet | clip"][0]].spec
    assert spec.attack is not None
    assert (spec.attack.params["rate"], spec.attack.params["place"]) == (2 * recipe.attack.params["rate"], "corner")  # type: ignore[union-attr]
    assert spec.train.epochs == round(recipe.train.epochs * 10 / 20)
    assert spec.defense.params["unimodal"] == 4 / 20
    assert spec.defense.params["low_lr"] == pytest.approx(2 * 0.1)  # twice the default, times the recipe's


def test_an_invalid_scaled_rate_is_reported_and_the_rest_runs() -> None:
    many = '[[rows]]\nlabel = ["many"]\nattack = "many"\npublished = [1, ""]\n[attacks.many]\nplugin = "badnet"\nrate = 0.4\n'
    (planned,) = plan_of(MINE + many).suites
    assert set(planned.reasons) == {"cc3m | many | clip"}
    assert "rate of badnet: Input should be less than 1" in planned.reasons["cc3m | many | clip"]


def test_a_request_holds_the_suite_and_the_built_in_ones_do_not() -> None:
    part = json.loads(json.dumps(raw(plan_of(MINE).requests[0])))["suite"]
    (suite,) = resolve(["mine.toml"])
    kept = from_record(part["name"], part["content"])
    assert (kept.digest, kept.rows, kept.conditions()) == (part["digest"], suite.rows, suite.conditions())
    assert [type(value) for row in kept.rows for value in row.published] == [int, float, str, str]
    (built_in,) = expand_suites(SuiteRequest(resolve(["table10"]), data="scenes", options=SIZES)).requests
    assert {"content", "digest"} & raw(built_in)["suite"].keys() == set()


def test_a_paper_of_the_project_can_be_named() -> None:
    text = MINE.replace('[paper]\nauthors = "Doe et al."\nyear = 2025', 'paper = "safeclip"')
    assert resolve([written(text)])[0].paper == load("table1").paper


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(path: Path) -> None:
    (planned,) = expand_suites(SuiteRequest(resolve([str(path)]), data="scenes", options=SIZES)).suites
    assert not planned.reasons
    assert planned.suite.paper.link
    assert {each.spec.model.name for each in planned.cells.values()} <= {"scenes-small"}


def test_two_examples_are_tables_of_one_paper() -> None:
    suites = resolve(str(path) for path in EXAMPLES if path.stem.startswith("par_"))
    assert len(suites) == 2
    assert len({suite.paper for suite in suites}) == 1
    values = {
        (row.label[0], column.label): value
        for suite in suites
        for row in suite.rows
        for column, value in zip(suite.columns, row.published, strict=True)
    }
    assert values["BadNet, random", "PAR"] == 6.3
    assert values["Blended, random", "CleanCLIP"] == 19.5
    assert values["Blended, triangles", "RoCLIP"] == 37.1
    assert round(sum(value for value in values.values() if isinstance(value, float | int)), 1) == 660.7
