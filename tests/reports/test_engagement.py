"""Defenses that did not engage, in every format."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.matrix.old_records import engagement_of
from bench.matrix.schema import LimitRecord, RunRecord
from bench.matrix.store import Store, read_json, write_json
from bench.meaning import Meaning
from bench.reports.answer import answer
from bench.reports.comparisons import comparisons
from bench.reports.engagement import bounds, value_of
from bench.reports.paper_terminal import print_papers
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.tables import asr_table, utility_table
from bench.reports.terminal import print_tables
from bench.reports.write import FORMATS, paper_tables, write_report

from .records_maker import EVIL, key_for, write_training
from .suite_maker import make_suites
from .test_write import Page

WHAT, ADVICE = "share of the pairs in the first safe set", f"raise `threshold` {EVIL}"
SAFECLIP = "safeclip (threshold=0.9)"
SAID = f"{WHAT} should be at most 90%; {ADVICE}"


def _limit(value: float | None) -> dict[str, Any]:
    engaged = value is not None and value <= 0.9
    told = {"figure": "safe_share", "at": "first", "unit": "fraction", "what": WHAT, "advice": ADVICE}
    return {**told, "value": value, "low": None, "high": 0.9, "engaged": engaged}


def _tell(store: Store, attack: str, seed: int, value: float | None, defense: str = "safeclip") -> None:
    key = key_for(attack, defense, seed)
    store.write_run(key, RunRecord.of({**(store.run_record(key) or RunRecord()).dump(), "engagement": [_limit(value)]}))


@pytest.fixture
def flagged(tmp_path: Path) -> Store:
    """SafeCLIP missed its limit against badnet at seed 0 and met it otherwise; other records have no limits."""
    store = make_suites(tmp_path / "flagged")
    _tell(store, "badnet", 0, 0.941)
    for attack, seed in (("badnet", 1), ("wanet", 0), ("wanet", 1)):
        _tell(store, attack, seed, 0.5)
    return store


def _tables(store: Store) -> tuple[Any, Any]:
    section = next(each for each in sections_of(load_runs(store)) if each.subtitle.startswith("from scratch · 8 epochs"))
    return asr_table(section), utility_table(section)


def _row(table: Any, defense: str, attack: str = "") -> Any:
    return next(row for row in table.rows if (row.attack, row.defense) == (attack, defense))


def _where(table: Any, numbers: list[int]) -> list[tuple[str, str, str]]:
    return [(note.status, note.reason, note.places) for note in table.notes if note.number in numbers]


def test_the_cell_has_a_note_and_is_not_the_best(flagged: Store) -> None:
    asr, utility = _tables(flagged)
    cell = _row(asr, SAFECLIP).cells[asr.attacks.index("badnet 0.5%")]
    note = ("did not engage", SAID, f"{SAFECLIP} × badnet 0.5%, seed 0: 94.1%")
    assert note in _where(asr, cell.notes)
    assert (cell.engaged, cell.best) == ("no", False)
    kept = _row(asr, SAFECLIP).cells[asr.attacks.index("wanet 2%")]
    assert (kept.engaged, kept.notes) == ("yes", [])
    assert _row(asr, "clip").cells[asr.attacks.index("badnet 0.5%")].engaged == ""
    row = _row(utility, SAFECLIP, "badnet 0.5%")
    assert _where(utility, row.notes) == [note]
    assert not any(cell.best for cell in row.cells)
    assert _row(utility, SAFECLIP, "wanet 2%").notes == []


def test_the_answer_credits_nobody_who_did_not_engage(flagged: Store) -> None:
    (section,) = [section for section in sections_of(load_runs(flagged)) if "8 epochs" in section.subtitle]
    found = answer(section)
    assert found
    verdict = next(each for each in found.verdicts if each.defense == SAFECLIP)
    assert (verdict.stopped, verdict.front) == ([], False)
    assert "stops none of 1 attack; did not engage against badnet 0.5% (11.5%)" in verdict.sentence
    assert not any(row.against == SAFECLIP for row in comparisons(section))


def test_who_engaged_can_be_the_best(flagged: Store) -> None:
    _tell(flagged, "badnet", 0, 0.89)
    asr, _ = _tables(flagged)
    cell = _row(asr, SAFECLIP).cells[asr.attacks.index("badnet 0.5%")]
    assert (cell.engaged, cell.best) == ("yes", True)
    assert not any(note.status == "did not engage" for note in asr.notes)


def test_seeds_share_a_note(flagged: Store) -> None:
    _tell(flagged, "badnet", 1, None)
    asr, _ = _tables(flagged)
    (note,) = [note for note in asr.notes if note.status == "did not engage"]
    name = f"{SAFECLIP} × badnet 0.5%"
    assert note.places == f"{name}, seed 0: 94.1%; {name}, seed 1: not measured"


def test_every_format_says_so(flagged: Store) -> None:
    paths = write_report(flagged, FORMATS)
    rows = list(csv.DictReader(io.StringIO(paths["table.csv"].read_text(encoding="utf-8"))))
    said = {(r["attack"], r["defense"]): (r["defense_engaged"], r["engagement"]) for r in rows if "8 epochs" in r["setting"]}
    missed = f"{WHAT}: 94.1%, should be at most 90%; {ADVICE}"
    assert said["badnet 0.5%", SAFECLIP] == ("no", missed)
    assert said["wanet 2%", SAFECLIP] == ("yes", "")
    assert said["badnet 0.5%", "clip"] == ("", "")
    lines = list(csv.DictReader(io.StringIO(paths["table1.csv"].read_text(encoding="utf-8"))))
    found = {
        (line["attack"], line["defense"], line["defense_engaged"], line["engagement"]) for line in lines if line["measured"]
    }
    assert ("badnet", "safeclip", "no", missed) in found
    assert ("wanet", "safeclip", "yes", "") in found
    assert not any(line["best"] for line in lines if line["defense_engaged"] == "no")
    latex = paths["table1.tex"].read_text(encoding="utf-8")
    assert "did not engage: share" in latex
    assert "in the first safe set should be at most 90\\%; raise \\texttt{threshold}" in latex
    assert "seed 0: 94.1\\%" in latex
    page = Page(text := paths["index.html"].read_text(encoding="utf-8"))
    assert EVIL not in text
    assert text.count('<small class="verdict">did not engage</small>') == 1
    assert page.text.count("Defense did not engage") == 1
    assert page.text.count("Did the defense engage?") == 4
    assert f"{WHAT} 94.1%, should be at most 90%: did not engage; raise" in " ".join(page.text.split())
    assert f"{WHAT} 50.0%, should be at most 90%" in " ".join(page.text.split())


def test_the_terminal_says_so(flagged: Store) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_tables(flagged, console)
    print_papers(paper_tables(flagged, load_runs(flagged), ["table1"]), console)
    text = " ".join(console.export_text().split())
    assert text.count("the defense did not engage: share of the pairs in the first safe set should be at most 90%; raise") == 3
    assert "seed 0: 94.1%" in text


def test_an_old_record_misses_the_limit_that_its_telemetry_shows(tmp_path: Path) -> None:
    store, key = Store.create(tmp_path / "old"), key_for("badnet", "safeclip", 0)
    write_training(store, "badnet", "safeclip", 0)
    record = store.run_record(key)
    assert record
    assert list(engagement_of(record)) == []
    curves = [point.model_copy(update={"safe_share": 0.9}) for point in record.curves]
    (limit,) = engagement_of(record.model_copy(update={"curves": curves}))
    assert (limit.engaged, limit.value, limit.high) == (False, 0.9, 0.85)
    assert list(engagement_of(record.model_copy(update={"curves": curves, "meaning": Meaning()}))) == []


def test_records_that_say_nothing_read_as_before(tmp_path: Path) -> None:
    paths = write_report(make_suites(tmp_path / "old"), ["csv", "html", "latex"])
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        assert "engage" not in text.replace(".engage", ""), name


@pytest.mark.parametrize("part", ["what", "advice", "engaged", "value", "high", "unit"])
def test_a_limit_with_a_part_of_another_kind_is_a_damaged_record(tmp_path: Path, part: str) -> None:
    store, key = Store.create(tmp_path / "damaged"), key_for("badnet", "safeclip", 0)
    write_training(store, "badnet", "safeclip", 0)
    path = store.run_dir(key) / "run.json"
    write_json(path, {**(read_json(path) or {}), "engagement": [_limit(0.95) | {part: [1]}]})
    assert load_runs(read := Store.open(store.root)) == []
    assert list(read.damaged) == [f"runs/{key}/run.json"]


@pytest.mark.parametrize(
    ("limit", "shown"),
    [
        ({"value": 0.5234, "low": 0.6}, ("52.3%", "at least 60%")),
        ({"value": 2.0, "low": 0.125, "high": 1.0, "unit": ""}, ("2", "at least 0.125 and at most 1")),
        ({"value": None, "high": 0.9}, ("not measured", "at most 90%")),
    ],
)
def test_values_and_bounds(limit: dict[str, Any], shown: tuple[str, str]) -> None:
    held = LimitRecord.of({"what": WHAT, "advice": ADVICE, "engaged": False, **limit})
    assert (value_of(held), bounds(held)) == shown
