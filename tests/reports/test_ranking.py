"""Ranks of defenses in reports, and the files of figures."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from bench.errors import UserError
from bench.matrix.store import Store
from bench.reports import plots
from bench.reports.page import render_page
from bench.reports.ranking import RankTable, rank_table
from bench.reports.records import load_runs
from bench.reports.sections import Section, sections_of
from bench.reports.write import write_report

from . import records_maker as maker

ATTACKS = ("badnet", "wanet", "blended")
ASR = {  # by defense, attack and seed
    "clip": [[0.90, 0.94], [0.95, 0.93], [0.99, 0.98]],
    "safeclip": [[0.10, 0.13], [0.20, 0.01], [0.30, 0.31]],
    "roclip": [[0.09, 0.12], [0.10, 0.11], [0.40, 0.41]],
}


def made(folder: Path, asr: dict[str, list[list[float]]] = ASR, epochs: int = 8) -> Store:
    store = Store.create(folder)
    for defense, by_attack in asr.items():
        for attack, values in zip(ATTACKS, by_attack, strict=False):
            for seed, value in enumerate(values):
                maker.write_training(store, attack, defense, seed, epochs)
                maker.write_evals(store, attack, defense, seed, (value, 0.7, 0.8, 0.6))
    cells = [
        maker.cell_of(a, d, s)
        for d, values in asr.items()
        for a, v in zip(ATTACKS, values, strict=False)
        for s in range(len(v))
    ]
    store.write_request("request", maker.RequestRecord.of({"cells": cells}))
    return store


def sections(store: Store) -> list[Section]:
    return sections_of(load_runs(store))


def ranked(store: Store) -> RankTable:
    found = rank_table(sections(store))
    assert found
    return found


def test_ranks_are_means_over_the_attacks_with_the_bootstrap_over_seeds(tmp_path: Path) -> None:
    found = ranked(made(tmp_path))
    means = np.array(list(ASR.values())).mean(axis=2)
    expected = dict(zip(ASR, stats.rankdata(means, axis=0).mean(axis=1), strict=True))
    assert {row.defense: row.rank for row in found.rows} == pytest.approx(expected)
    assert [row.rank for row in found.rows] == sorted(expected.values())
    by_seed = {seed: stats.rankdata(np.array(list(ASR.values()))[:, :, seed], axis=0).mean(axis=1) for seed in (0, 1)}
    for place, defense in enumerate(ASR):
        row = next(row for row in found.rows if row.defense == defense)
        bounds = sorted({expected[defense], *(ranks[place] for ranks in by_seed.values())})
        assert (row.low, row.high) == (bounds[0], bounds[-1])
    assert found.seeds == 2
    assert len(found.blocks) == 3
    assert found.test is None
    assert "no difference" in found.sentence


def test_a_defense_that_did_not_engage_is_not_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.reports.ranking.engaged", lambda runs: "no" if runs[0].defense == "safeclip" else "yes")
    found = ranked(made(tmp_path))
    assert {row.defense for row in found.rows} == {"clip", "roclip"}
    assert len(found.disengaged) == 1


def test_one_attack_or_one_seed_gives_no_ranks(tmp_path: Path) -> None:
    one_attack = {defense: values[:1] for defense, values in ASR.items()}
    one_seed = {defense: [value[:1] for value in values] for defense, values in ASR.items()}
    assert rank_table(sections(made(tmp_path / "attack", one_attack))) is None
    assert rank_table(sections(made(tmp_path / "seed", one_seed))) is None


def test_the_report_has_the_ranks(tmp_path: Path) -> None:
    store = made(tmp_path)
    file = write_report(store, ["csv"])["ranks.csv"]
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["defense"] for row in rows] == [row.defense for row in ranked(store).rows]
    assert {row["friedman_p"] for row in rows} == {""}
    assert 'id="ranks"' in render_page(load_runs(store))


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_figures_are_files_with_the_same_bytes_each_time(ending: str, tmp_path: Path) -> None:
    (section,) = sections(made(tmp_path))
    files = plots.figure_files([section], ending)
    assert set(files) == {f"{name}-{section.id}.{ending}" for name in ("outcomes", "tradeoff")}
    assert files == plots.figure_files([section], ending)


def test_a_figure_holds_its_numbers_and_names(tmp_path: Path) -> None:
    (section,) = sections(made(tmp_path))
    drawn = ElementTree.fromstring(plots.figure_files([section], "svg")[f"outcomes-{section.id}.svg"])
    rows = list(csv.DictReader(drawn.findtext(".//{http://purl.org/dc/elements/1.1/}description", "").strip().splitlines()))
    clip = next(row for row in rows if (row["attack"].startswith("badnet"), row["defense"]) == (True, "clip"))
    assert float(clip["asr"]) == pytest.approx(92)
    texts = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"clip", "roclip"} <= texts


def test_figures_without_matplotlib_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"^--format svg needs matplotlib; pip install"):
        write_report(made(tmp_path), ["svg"])
