"""Paper tables: published, measured, difference and bold, recomputed here from the numbers of the records."""

from __future__ import annotations

import csv
import io
import re
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.matrix.schema import RunRecord, SpecRecord
from bench.matrix.store import Store
from bench.reports.measures import Metric, Problem, point_for
from bench.reports.paper import PaperCell, PaperTable, shown
from bench.reports.paper_terminal import print_papers
from bench.reports.records import Run, load_runs
from bench.reports.stats import Point, Stat
from bench.reports.tables import Cell
from bench.reports.write import paper_tables, write_report
from bench.suites.library import names

from .records_maker import NUMBERS
from .suite_maker import PAPER_DATA, ask, make_suites

SHOWN = {"clip": "CLIP", "safeclip": "SafeCLIP", "badnet": "BadNet", "wanet": "WaNet"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_suites(tmp_path / "results")


def tables(store: Store, *suites: str) -> dict[str, PaperTable]:
    return {table.variant.suite.name: table for table in paper_tables(store, load_runs(store), suites)}


def cells(table: PaperTable) -> dict[tuple[str, str], PaperCell]:
    return {
        (" ".join(row.label), f"{column.group} {column.label}".strip()): cell
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell
    }


def asr(attack: str, defense: str) -> list[float]:
    return [numbers[1] for numbers in NUMBERS[attack, defense]]


def test_only_suites_that_were_run_unless_named(store: Store) -> None:
    assert list(tables(store)) == ["table1", "table2", "table6", "figure2"]
    assert list(tables(store, "all")) == names()
    assert list(tables(store, "table11", "table3")) == ["table11", "table3"]
    assert {cell.measured.word for cell in tables(store, "table11")["table11"].cells} == {"published only"}
    with pytest.raises(UserError, match="unknown suite"):
        tables(store, "table0")


def test_published_measured_and_difference(store: Store) -> None:
    found = cells(tables(store)["table1"])
    assert len(found) == 60
    published = {("MSCOCO", "badnet", "clip"): 31.0, ("CC1M", "wanet", "clip"): 96.3, ("CC1M", "badnet", "safeclip"): 0.0}
    for (data, attack, defense), value in published.items():
        cell = found[SHOWN[defense], f"{data} {SHOWN[attack]}"]
        mean = statistics.mean(asr(attack, defense))
        assert cell.published == value
        assert cell.measured.stat is not None
        assert cell.measured.stat.mean == pytest.approx(mean)
        assert cell.text == f"{mean * 100:.1f}"
        assert cell.spread == f"± {statistics.stdev(asr(attack, defense)) * 100:.1f}"
        assert cell.difference == pytest.approx(mean * 100 - value)
        assert cell.difference_text == f"{mean * 100 - value:+.1f}".replace("-", "−")


def test_bold_by_brute_force(store: Store) -> None:
    table = tables(store)["table1"]
    bold = {key for key, cell in cells(table).items() if cell.measured.best}
    undefended, defended = (statistics.mean(asr("badnet", name)) for name in ("clip", "safeclip"))
    assert defended < undefended
    assert bold == {("SafeCLIP", f"{data} BadNet") for data in ("CC1M", "MSCOCO")}
    assert statistics.mean(asr("wanet", "safeclip")) < statistics.mean(asr("wanet", "clip"))  # but the attack is ineffective
    assert {cell.effective for (_, name), cell in cells(table).items() if "WaNet" in name} == {"", "no"}
    reasons = {note.status: note for note in table.notes}
    assert "undefended ASR 18.0%" in reasons["attack ineffective"].reason


def test_cells_without_a_value_have_a_reason(store: Store) -> None:
    found = cells(tables(store)["table1"])
    assert (found["RoCLIP", "CC1M BadNet"].measured.word, found["RoCLIP", "CC1M BadNet"].measured.stat) == ("failed", None)
    assert "loss is NaN" in found["RoCLIP", "CC1M BadNet"].measured.reason
    assert found["SafeCLIP", "CC1M BadNet"].measured.seeds == "2 of 3 seeds"
    assert found["CLIP", "CC1M TDPA"].measured.reason == "the attack tdpa is not available here"
    assert "bench run --suite table1" in found["CLIP", "Visual Genome TDPA"].measured.reason
    assert found["CLIP", "CC1M TDPA"].printed == "93.75"
    assert found["CLIP", "CC1M TDPA"].difference is None


def test_other_downstream_tasks_get_extra_columns(store: Store) -> None:
    table = tables(store)["table2"]
    found = cells(table)
    assert [column.label for column in table.columns[10:]] == ["minus CLIP", "colour", "object", "shape"]
    assert found["CLIP zero-shot", "ImageNet"].measured.word == "unsupported"
    assert found["CLIP zero-shot", "not in the paper object"].text == "79.0"
    gain = statistics.mean(
        (own[3] + own[4]) / 2 - (clip[3] + clip[4]) / 2
        for own, clip in zip(NUMBERS["badnet", "safeclip"], NUMBERS["none", "clip"], strict=True)
    )
    cell = found["SafeCLIP linear probe", "minus CLIP"]
    assert cell.measured.stat is not None
    assert cell.measured.stat.mean == pytest.approx(gain)
    assert cell.difference == pytest.approx(gain * 100 - 0.5)
    assert found["CLIP zero-shot", "minus CLIP"].printed == "–"


def test_safe_sets_come_from_the_first_split(store: Store) -> None:
    found = cells(tables(store)["table6"])
    assert found["CC1M", "t = 0.9 safe set"].text == "62.5"
    assert found["CC1M", "t = 0.9 poison rate"].published == 0.000375
    assert shown(3.75e-6, "fraction") == "0.000375"


def test_variants_are_separate_and_collect_seeds(store: Store) -> None:
    ask(store, "table6", {}, {}, options=["train.epochs=2"])
    assert [t.variant.suite.name for t in paper_tables(store, load_runs(store))].count("table6") == 2
    ids = [table.variant.id for table in paper_tables(store, load_runs(store))]
    assert len(ids) == len(set(ids))


def test_csv(store: Store) -> None:
    lines = list(csv.DictReader(io.StringIO(write_report(store)["table1.csv"].read_text())))
    assert len(lines) == 60
    line = next(each for each in lines if (each["row"], each["group"], each["column"]) == ("CLIP", "MSCOCO", "BadNet"))
    assert (line["paper_data"], line["replacement"], line["published"], line["seeds"]) == (PAPER_DATA[1], "scenes", "0.31", "2")
    assert float(line["measured"]) == pytest.approx(statistics.mean(asr("badnet", "clip")))
    assert float(line["difference"]) == pytest.approx(statistics.mean(asr("badnet", "clip")) - 0.31)
    assert line["attack_effective"] == "yes"


@pytest.mark.parametrize(
    ("published", "measured", "text"),
    [
        (5.0, 0.050371, "0.0"),
        (5.0, 0.049629, "0.0"),
        (5.0, 0.0512, "+0.1"),
        (0.0, 0.312, "+31.2"),
        (90.0, 0.5, "−40.0"),
        (0.000375, 0.000212, "+0.0208"),
        (0.01, 0.00005, "−0.005"),
    ],
)
def test_a_difference_has_the_precision_of_its_operands(published: float, measured: float, text: str) -> None:
    cell = PaperCell("", f"{published:g}", published, Cell(Stat((0,), (Point(measured),))), Metric())
    assert cell.difference_text == text


def test_terminal_shows_published_measured_and_difference_within_100_columns(store: Store) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    print_papers(paper_tables(store, load_runs(store), names()), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    clip, paper = re.findall(r"^ CLIP .*\n.*$", text, re.MULTILINE)[2].splitlines()  # the third group is MSCOCO
    mean, deviation = statistics.mean(asr("badnet", "clip")) * 100, statistics.stdev(asr("badnet", "clip")) * 100
    assert f"{mean:.1f} ± {deviation:.1f}" in clip
    assert f"31.0 (+{mean - 31.0:.1f})" in paper
    assert "attack ineffective" in text
    assert "failed: train: RuntimeError: loss is NaN" in " ".join(text.split())


def test_page_has_every_cell_and_its_links_lead_somewhere(store: Store) -> None:
    text = write_report(store, ["html"], ["all"])["index.html"].read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    part = text[text.index('id="paper"') : text.index('class="setting" id="setting-')]
    assert part.count("paper 93.75") == 2
    assert "(−62.5)" not in part
    assert "First safe set" in part


def test_the_same_bytes_twice_and_elsewhere(store: Store, tmp_path: Path) -> None:
    formats = ["csv", "html", "latex"]
    first = {name: path.read_bytes() for name, path in write_report(store, formats).items()}
    second = {name: path.read_bytes() for name, path in write_report(store, formats).items()}
    elsewhere = {name: path.read_bytes() for name, path in write_report(make_suites(tmp_path / "x"), formats).items()}
    assert first == second == elsewhere
    assert {"table1.csv", "table1.tex", "table6.tex"} <= first.keys()
    assert "figure2.csv" not in first


def test_the_increase_of_time_counts_what_a_run_builds_on() -> None:
    def run(seconds: float, builds_on: str | None = None, **timing: float) -> Run:
        below = {"name": builds_on} if builds_on else None
        spec = {"defense": {"name": "any", "builds_on": below}}
        record = {"spec": spec, "timing": {"stages": {"step": seconds - 3, "selection": 3.0}, **timing}}
        return Run("key", "scenes", "small", "none", None, "any", 0, SpecRecord.of(spec), RunRecord.of(record), None, ())

    def increase(defended: Run) -> Point | Problem:
        return point_for(defended, run(20), "time.increase", "")

    assert increase(run(50)) == Point(pytest.approx(1.5))
    assert increase(run(50, "clip", builds_on_seconds=20)) == Point(pytest.approx(2.5))
    assert increase(run(50, "clip")) == ("no value", "the run did not record its times")  # an older record


def test_stages_are_those_that_the_defense_declares() -> None:
    """The last epoch of `first` ends with a choice of the safe set too, which counts as an update and not for the stage."""
    epochs = [
        {"loss_a": 1, "seconds": 2},
        {"loss_a": 1, "seconds": 4, "kept": 1},
        {"loss_a": 1, "loss_b": 1, "seconds": 9, "kept": 1},
    ]
    meaning = {
        "safe_share": "kept",
        "lr_shares": ["low"],
        "stages": [{"name": "first", "phase": "a"}, {"name": "second", "phase": "b", "updates": True}],
    }
    spec = {"defense": {"name": "any", "params": {"low": 0.25}}, "train": {"lr": 0.5, "batch_size": 7}}
    record = {"spec": spec, "curves": epochs, "timing": {"stages": {"scoring": 3.0}}, "meaning": meaning}
    plain = {"curves": [{"seconds": 1.5}, {"seconds": 2.5}]}
    defended, undefended = (
        Run("key", "scenes", "small", "none", None, "any", 0, SpecRecord.of(spec), RunRecord.of(each), None, ())
        for each in (record, plain)
    )

    def value(metric: str) -> float:
        found = point_for(defended, undefended, metric, "")
        assert isinstance(found, Point), found
        return found.value

    assert (value("time.first"), value("time.second"), value("time.update")) == (1.5, (9 - 1.5) / 2, 0.75)
    assert (value("time.epoch"), value("setting.low"), value("setting.batch_size")) == (2.5, 0.125, 7)
    assert point_for(defended, undefended, "time.unimodal", "") == (
        "no value",
        "the run has no such epochs, or did not record their times",
    )
