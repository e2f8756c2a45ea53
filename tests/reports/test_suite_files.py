"""Suites from files in reports: a results folder shows them without the file, and an edited file keeps unchanged runs."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.matrix.store import Store
from bench.reports.paper import PaperCell, PaperTable
from bench.reports.paper_terminal import print_papers
from bench.reports.records import load_runs
from bench.reports.write import FORMATS, paper_tables, write_report
from bench.suites.library import resolve

from .suite_maker import ask, keys_of, make_suites

MINE = """
label = "Table 7"
title = "Defenses <b>& more</b>"
headers = ["method"]
base = { data = "cc3m", metric = "asr" }
columns = [ { label = "BadNet", attack = "badnet" }, { label = "strong", attack = "badnet strong" } ]

[paper]
authors = "Doe et al."
year = 2025
title = "On patches"
link = "https://example.org/abs/1"
cite = "doe2025"

[[rows]]
label = ["CLIP"]
published = [90, 95.5]

[[rows]]
label = ["PAR"]
defense = "par"
published = [12.5, "-"]

[attacks."badnet strong"]
plugin = "badnet"
rate = 0.002

[unsupported]
defenses = ["par"]
"""
MISSING = {f"cc3m | {attack} | par": "no plugin named par" for attack in ("badnet", "badnet strong")}
RUNS = {f"cc3m | {attack} | clip": keys_of("badnet", "clip") for attack in ("badnet", "badnet strong")}

Run = Callable[[str], None]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return make_suites(tmp_path / "results")


@pytest.fixture
def run(store: Store) -> Run:
    """Store a suite as `bench run --suite mine.toml` does."""

    def write(text: str) -> None:
        Path("mine.toml").write_text(text, encoding="utf-8")
        (suite,) = resolve(["mine.toml"])
        kept = {"content": suite.content, "digest": suite.digest}
        before = len(store.requests())
        ask(store, "mine", RUNS, MISSING, **kept)
        path = store.root / "requests" / f"suite-mine-{len(RUNS)}.json"
        path.rename(path.with_name(f"suite-mine-{before}.json"))

    return write


def tables(store: Store, *suites: str) -> list[PaperTable]:
    return [each for each in paper_tables(store, load_runs(store), suites) if each.variant.suite.name == "mine"]


def cells(table: PaperTable) -> dict[tuple[str, str], PaperCell]:
    return {
        (row.label[0], column.label): cell
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell
    }


def test_a_folder_alone_reports_it_elsewhere(store: Store, run: Run, tmp_path: Path) -> None:
    run(MINE)
    Path("mine.toml").unlink()
    elsewhere = Store.open(Path(shutil.copytree(store.root, tmp_path / "elsewhere")))
    paths = write_report(elsewhere, FORMATS)
    lines = list(csv.DictReader(io.StringIO(paths["mine.csv"].read_text())))
    assert [(line["row"], line["column"], line["published"], line["status"]) for line in lines] == [
        ("CLIP", "BadNet", "0.9", "done"),
        ("CLIP", "strong", "0.955", "done"),
        ("PAR", "BadNet", "0.125", "unsupported"),
        ("PAR", "strong", "", "unsupported"),
    ]
    assert {line["reason"] for line in lines if line["row"] == "PAR"} == {"no plugin named par"}
    assert [each.variant.suite.name for each in paper_tables(elsewhere, load_runs(elsewhere), ["mine"])] == ["mine"]
    with pytest.raises(UserError, match="--suite mien: unknown suite; did you mean"):
        tables(elsewhere, "mien")
    assert elsewhere.damaged == {}


def test_an_unpublished_number_is_a_dash_beside_published_ones(store: Store, run: Run) -> None:
    run(MINE)
    assert {cell.printed for cell in cells(tables(store)[0]).values()} == {"90", "95.5", "12.5", "–"}


def test_a_suite_without_published_numbers_shows_what_was_measured_alone(store: Store, run: Run) -> None:
    run(MINE.replace("[90, 95.5]", '["-", "-"]').replace("12.5", '"-"'))
    (table,) = tables(store)
    assert {cell.printed for cell in cells(table).values()} == {""}
    console = Console(width=100, record=True, file=io.StringIO())
    print_papers([table], console)
    text = console.export_text()
    assert re.search(r"CLIP +\d", text)
    assert not re.search(r"^ +[–-]( +[–-])*$", text, re.MULTILINE)


def test_its_paper_is_cited_and_distinguished_from_others(store: Store, run: Run) -> None:
    run(MINE)
    paths = write_report(store, FORMATS)
    page, tex = (paths[name].read_text(encoding="utf-8") for name in ("index.html", "mine.tex"))
    assert "Tables of Yang et al. 2024 and Doe et al. 2025 in their own layout" in page
    assert '<a href="https://example.org/abs/1">' in page
    assert "Table 7 of Doe et al. 2025. Defenses &lt;b&gt;&amp; more" in page
    assert "Table 1 of Yang et al. 2024. Attack success" in page
    assert r"(Table 7 of Doe et al. 2025~\cite{doe2025}, measured on scenes" in tex
    assert r"\cite" not in paths["table1.tex"].read_text()
    alone = write_report(store, ["html"], ["mine"])["index.html"].read_text(encoding="utf-8")
    assert "Tables of Doe et al. 2025 in their own layout" in alone
    assert "Table 7. Defenses" in alone
    console = Console(width=100, record=True, file=io.StringIO())
    print_papers(tables(store, "mine"), console)
    text = console.export_text()
    assert "Doe et al. 2025. On patches. https://example.org/abs/1" in text
    assert re.search(r"^ PAR +unsupported \[\d\] +unsupported \[\d\]", text, re.MULTILINE)
    assert "unsupported: no plugin named par (cc3m | badnet | par; cc3m | badnet strong | par)" in " ".join(text.split())


def test_an_accuracy_of_no_task_is_the_mean_over_those_measured(store: Store, run: Run) -> None:
    run(MINE.replace('metric = "asr"', 'metric = "linear_probe"'))
    (table,) = tables(store)
    assert len(table.columns) == 2
    assert cells(table)["CLIP", "BadNet"].text == "79.0"  # colour 88 and 90, shape 70 and 68


def test_a_suite_that_was_not_run_says_how_to_run_it(store: Store) -> None:
    Path("mine.toml").write_text(MINE)
    (table,) = tables(store, "mine.toml")
    assert {cell.measured.word for cell in table.cells} == {"not run"}
    assert "run `bench run --suite mine.toml`" in table.cells[0].measured.reason


def test_an_edited_file_keeps_the_runs_of_conditions_that_are_the_same(store: Store, run: Run) -> None:
    run(MINE)
    Path("mine.toml").write_text(MINE.replace("95.5", "96").replace("[90,", "[91,"))
    (table,) = tables(store, "mine.toml")
    found = cells(table)
    assert (found["CLIP", "strong"].published, found["CLIP", "strong"].measured.word) == (96, "")
    assert found["CLIP", "BadNet"].published == 91
    Path("mine.toml").write_text(MINE.replace("0.002", "0.003"))
    found = cells(*tables(store, "mine.toml"))
    assert found["CLIP", "strong"].measured.stat is None
    assert found["CLIP", "strong"].measured.word == "not run"
    assert found["CLIP", "BadNet"].measured.stat is not None


def test_two_versions_on_record_are_separate(store: Store, run: Run) -> None:
    run(MINE)
    run(MINE.replace("95.5", "96"))
    found = tables(store)
    assert sorted(cells(table)["CLIP", "strong"].printed for table in found) == ["95.5", "96"]
    assert len({table.variant.id for table in found}) == 2
    assert all(re.search("version [0-9a-f]{6}$", table.variant.subtitle) for table in found)
    lines = csv.DictReader(io.StringIO(write_report(store)["mine.csv"].read_text()))
    assert len({line["options"] for line in lines}) == 2
    assert [table.variant.options for table in tables(store, "mine.toml")] == [()]


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("name", "../mine", "is not a valid suite name"),
        ("name", "table1", "built-in suite"),
        ("digest", "0" * 16, "has the digest"),
        ("digest", None, "has the digest"),
        ("content.paper.link", "javascript:alert(1)", "an address that begins with https://"),
        ("content.base.metric", "magic", "unknown metric"),
        ("content.rows", 7, "list"),
        ("content", "x", "dictionary"),
    ],
)
def test_invalid_suite_content_is_reported_as_damaged(store: Store, run: Run, part: str, value: Any, said: str) -> None:
    run(MINE)
    path = next(store.root.glob("requests/suite-mine-*.json"))
    record = json.loads(path.read_text())
    *way, last = part.split(".")
    at = record["suite"]
    for name in way:
        at = at[name]
    at[last] = value
    path.write_text(json.dumps(record))
    paths = write_report(store)
    (reason,) = store.damaged.values()
    assert said in reason
    assert "mine.csv" not in paths
    assert {"table1.csv", "index.html"} <= paths.keys()
