"""Figures from records: which runs are shown, what is omitted, and that nothing is markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.matrix.schema import RunRecord
from bench.matrix.store import Store
from bench.meaning import Meaning, Mixture
from bench.reports.figures import HeatMap, Plot
from bench.reports.gallery import AttackFigures, figures_of
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.similarities import distribution_of, examples_of, split_of
from bench.reports.write import write_report

from . import similarity_maker as similar
from .records_maker import EVIL, key_for

Record = dict[str, Any]


def record_of(*entries: Record, examples: Any = None) -> RunRecord:
    curves = [{"epoch": at, **entry} for at, entry in enumerate(entries)]
    return RunRecord.of({"curves": curves, "examples": examples})


def change(store: Store, attack: str, defense: str, seed: int, edit: Callable[[Record], object]) -> None:
    path = store.run_dir(key_for(attack, defense, seed)) / "run.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


def shown(store: Store) -> dict[str, AttackFigures]:
    short = next(section for section in sections_of(load_runs(store)) if section.subtitle.startswith("from scratch · 8 epochs"))
    return {figures.attack: figures for figures in figures_of(short)}


def test_a_panel_for_each_defense_with_clip_first(store: Store) -> None:
    figures = shown(store)
    assert list(figures) == [f"{EVIL} 1%", "badnet 0.5%", "wanet 2%"]
    badnet = figures["badnet 0.5%"]
    names = ["clip", EVIL, "safeclip (threshold=0.7)", "safeclip (threshold=0.9)"]
    assert badnet.examples is not None
    assert [panel.defense for panel in badnet.examples.panels] == names
    assert [panel.defense for panel in badnet.overlaps] == names
    assert [panel.defense for panel in badnet.splits] == names[2:]
    assert {panel.seed for panel in badnet.examples.panels} == {0}
    assert badnet.overlaps[0].anchor == f"run-{key_for('badnet', 'clip', 0)}"


def test_panels_of_a_figure_share_their_scale(store: Store) -> None:
    change(store, "badnet", "clip", 0, lambda record: record["examples"]["values"][0].__setitem__(0, 1.0))
    figure = shown(store)["badnet 0.5%"].examples
    assert figure is not None
    assert (figure.low, figure.high) == ("−0.01", "1.00")
    first = [panel.drawing.cells[0].strength for panel in figure.panels if isinstance(panel.drawing, HeatMap)]
    assert first[0] == "1.00"
    assert len(set(first[1:])) == 1


def test_what_the_panels_say(store: Store) -> None:
    badnet = shown(store)["badnet 0.5%"]
    clean, poison = (sum(counts) for name, counts in similar.split().items() if name.startswith("similarity"))
    pairs, safe = clean + poison, round(0.625 * (clean + poison))
    said = f"After epoch 2: the safe set has {safe:,} of {pairs:,} pairs (62.5%) and 3 of {poison} poisons."
    assert [panel.note for panel in badnet.splits] == [f"{said} No mixture could be fitted.", said]
    degenerate, fitted = (panel.drawing for panel in badnet.splits)
    assert isinstance(degenerate, Plot)
    assert isinstance(fitted, Plot)
    assert (len(degenerate.curves), len(fitted.curves)) == (0, 3)
    assert [bar.x for bar in degenerate.bars] == [bar.x for bar in fitted.bars]
    looked = [sum(counts) for counts in similar.first_look().values()]
    assert badnet.overlaps[0].note == f"After epoch 1: {looked[0]:,} clean and {looked[1]} poisoned pairs."
    assert badnet.overlaps[3].note == f"After epoch 2: {clean:,} clean and {poison} poisoned pairs."
    assert badnet.examples is not None
    values = similar.examples("clip")["values"]
    own = sum(values[at][at] for at in range(6)) / 6
    assert badnet.examples.panels[0].note.startswith(f"Poisoned pair 0.81, clean pairs {own:.2f}, mismatched pairs 0.")


def test_the_lowest_seed_that_has_the_data(store: Store) -> None:
    change(store, "badnet", "clip", 0, lambda record: record.update(examples=None))
    badnet = shown(store)["badnet 0.5%"]
    assert badnet.examples is not None
    assert [(panel.defense, panel.seed) for panel in badnet.examples.panels][:2] == [("clip", 1), (EVIL, 0)]
    assert badnet.examples.panels[0].anchor == f"run-{key_for('badnet', 'clip', 1)}"
    assert badnet.overlaps[0].seed == 0


def test_old_records_have_no_figures(store: Store) -> None:
    sections = sections_of(load_runs(store))
    assert [bool(figures_of(section)) for section in sections] == [True, False]
    page = write_report(store)["index.html"].read_text(encoding="utf-8")
    assert page.count('-figures">Figures') == 1
    assert [" open" in tag for tag in re.findall('<details class="attack"[^>]*>', page)] == [True, False, False]


@pytest.mark.parametrize(
    "examples",
    [
        None,
        {"labels": similar.LABELS[:6], "values": similar.examples("clip")["values"]},
        {"labels": similar.LABELS, "values": similar.examples("clip")["values"][:6]},
        {"labels": similar.LABELS, "values": [row[:6] for row in similar.examples("clip")["values"]]},
    ],
)
def test_examples_that_are_not_seven_by_seven_are_left_out(examples: Any) -> None:
    assert examples_of(record_of(examples=examples)) is None
    assert examples_of(record_of(examples=similar.examples("clip"))) is not None


@pytest.mark.parametrize("clean", [None, [], [1] * 39, [1] * 41, [None] * 40, [-1] * 40, [0.5] * 40, [True] * 40, [0] * 40])
def test_histograms_of_another_kind_are_left_out(clean: Any) -> None:
    for name in ("similarity_clean", "similarity_poison"):
        assert distribution_of(record_of(similar.first_look() | {name: clean})) is None
    assert split_of(record_of(similar.split() | {"similarity_clean": clean})) is None
    assert distribution_of(record_of(similar.first_look())) is not None


@pytest.mark.parametrize("name", sorted(similar.split().keys() - {"safe_poison_rate", "safe_poison_recall"}))
def test_a_split_that_lacks_a_number_is_left_out(name: str) -> None:
    split = similar.split()
    assert split_of(record_of(split)) is not None
    assert split_of(record_of(split | {name: None})) is None
    del split[name]
    assert split_of(record_of(split)) is None


@pytest.mark.parametrize("changes", [{"gmm_lower_std": 0.0}, {"gmm_upper_std": -1.0}, {"gmm_lower_weight": 1.5}])
def test_impossible_mixtures_are_left_out_unless_none_was_fitted(changes: Record) -> None:
    assert split_of(record_of(similar.split() | changes)) is None
    degenerate = split_of(record_of(similar.split(degenerate=True) | changes))
    assert degenerate is not None
    assert degenerate.components == ()


def test_the_epoch_that_is_shown() -> None:
    look, split = similar.first_look(), similar.split()
    later = split | {"safe_cut": 0.2}
    of_split, of_look = distribution_of(record_of(look, split, later)), distribution_of(record_of({}, look, look))
    assert (of_split and of_split.epoch, of_look and of_look.epoch) == (2, 2)
    first = split_of(record_of(look, split, later))
    assert first is not None
    assert (first.distribution.epoch, first.cut) == (2, 0.31)
    assert distribution_of(record_of({**look, "similarity_poison": [0] * 40})) is None


@pytest.mark.parametrize("record", [{}, {"curves": None}, {"examples": None}, {"curves": [{"epoch": None, **similar.split()}]}])
def test_records_without_anything(record: Record) -> None:
    read = RunRecord.of(record)
    assert (examples_of(read), distribution_of(read), split_of(read)) == (None, None, None)


def test_hostile_labels_are_text(store: Store, tmp_path: Path) -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    change(store, "badnet", "clip", 0, lambda record: record["examples"]["labels"].__setitem__(0, hostile))
    page = write_report(store)["index.html"].read_text(encoding="utf-8")
    assert hostile not in page
    assert "<img" not in page
    assert EVIL not in page
    assert page.count("&#34;&gt;&lt;img src=x onerror=alert(1)&gt; × red ball 2: ") == 1


def test_no_histogram_is_printed_as_telemetry(store: Store) -> None:
    page = write_report(store)["index.html"].read_text(encoding="utf-8")
    assert "similarity_clean" not in page
    assert "safe_cut, first → last epoch" in page


def test_numbers_are_found_by_the_names_that_the_defense_declares() -> None:
    whole = similar.split()
    names = {name: f"of mine {at}" for at, name in enumerate(whole) if name.startswith(("gmm_", "safe_cut", "safe_share"))}
    own = {names.get(name, name): value for name, value in whole.items()}
    mixture = Mixture(**{name.removeprefix("gmm_"): mine for name, mine in names.items() if name.startswith("gmm_")})
    meaning = Meaning(safe_share=names["safe_share"], safe_cut=names["safe_cut"], mixture=mixture)
    assert split_of(record_of(own)) is None
    told = record_of(own).model_copy(update={"meaning": meaning})
    assert split_of(told) == split_of(record_of(whole)) is not None
    assert split_of(record_of(whole).model_copy(update={"meaning": Meaning()})) is None
