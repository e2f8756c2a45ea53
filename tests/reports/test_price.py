"""The price breakdown against numbers computed by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.canonical import digest, without_nulls
from bench.matrix.store import Store
from bench.reports.command import command_of
from bench.reports.price import PriceTable, price_table
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.stats import wilson
from bench.reports.tables import asr_table, utility_table
from bench.reports.terminal import print_tables
from bench.reports.write import write_report

from . import records_maker as maker

# (attack, seed) -> ASR, zero-shot, probe colour, probe shape of the two controls for safeclip
CONTROLS = {
    ("badnet", 0): {"control_steps": (0.90, 0.75, 0.88, 0.70), "control_size": (0.80, 0.72, 0.86, 0.66)},
    ("badnet", 1): {"control_steps": (0.92, 0.74, 0.90, 0.68), "control_size": (0.70, 0.71, 0.84, 0.64)},
}


@pytest.fixture
def priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store, before = maker.make(tmp_path / "priced"), maker.spec_of
    for (attack, seed), found in CONTROLS.items():
        for name, numbers in found.items():
            monkeypatch.setattr(maker, "spec_of", _fixed(before, name, seed))
            maker.write_training(store, attack, name, seed)
            maker.write_evals(store, attack, name, seed, numbers)
            monkeypatch.setattr(maker, "spec_of", before)
    return store


def _fixed(before: Any, name: str, seed: int) -> Any:
    spec = before("badnet", "safeclip", seed)
    control = {**spec, "defense": {"name": name, "version": "1", "params": {}, "beside": spec["defense"]}}
    return lambda *_: control


def control_key(name: str, seed: int) -> str:
    return digest(without_nulls(_fixed(maker.spec_of, name, seed)()))


def table(store: Store) -> PriceTable:
    found = [made for section in sections_of(load_runs(store)) if (made := price_table(section))]
    assert len(found) == 1
    return found[0]


def test_parts_sum_to_the_loss(priced: Store) -> None:
    found = table(priced)
    assert {(row.attack, row.defense) for row in found.rows} == {("badnet 0.5%", "safeclip (threshold=0.9)")}
    parts = {row.measure: row.parts for row in found.rows}
    assert parts["asr"] == pytest.approx((0.92 - 0.91, 0.91 - 0.75, 0.75 - 0.115))
    assert parts["zero_shot"] == pytest.approx((0.755 - 0.745, 0.745 - 0.715, 0.715 - 0.71))
    assert parts["linear_probe"] == pytest.approx((0.0, 0.04, 0.0))
    assert found.sentences == [
        "Of safeclip (threshold=0.9)'s 4.5 points lost in zero_shot, 1.0 are due to fewer steps, 3.0 to fewer pairs and 0.5 to "
        "the method; of the 80.5 points of ASR removed by safeclip (threshold=0.9), 1.0 are due to fewer steps, 16.0 to fewer "
        "pairs and 63.5 to the method."
    ]


def test_no_breakdown_unless_measured_on_the_same_seeds(priced: Store) -> None:
    (priced.run_dir(control_key("control_size", 1)) / "run.json").unlink()
    found = table(priced)
    assert [row.parts for row in found.rows] == [None] * 3
    assert found.sentences == []
    size = found.rows[0].cells[2]
    assert size.stat
    assert size.stat.seeds == (0,)


def test_controls_are_in_no_other_table(priced: Store, store: Store) -> None:
    for section, without in zip(sections_of(load_runs(priced)), sections_of(load_runs(store)), strict=True):
        for made in (asr_table, utility_table):
            with_them, plain = made(section), made(without)
            assert with_them
            assert plain
            assert [(row.attack, row.defense) for row in with_them.rows] == [(row.attack, row.defense) for row in plain.rows]
    assert not [section for section in sections_of(load_runs(store)) if price_table(section)]


def test_files_page_and_terminal(priced: Store, store: Store) -> None:
    paths = write_report(priced)
    assert "price.csv" not in write_report(store)
    rows = list(csv.DictReader(io.StringIO(paths["price.csv"].read_text())))
    (asr,) = [row for row in rows if row["measure"] == "asr"]
    assert [float(asr[name]) for name in ("clip", "control_steps", "control_size", "defended")] == pytest.approx(
        [0.92, 0.91, 0.75, 0.115]
    )
    assert float(asr["by_fewer_pairs"]) == pytest.approx(0.16)
    assert (float(asr["defended_pooled_low"]), float(asr["defended_pooled_high"])) == pytest.approx(wilson(138 / 1200, 1200))
    assert (asr["defended_n_total"], asr["defended_n_least"]) == ("1200", "600")
    assert "control_size for safeclip" in {row["defense"] for row in csv.DictReader(paths["results.csv"].open())}
    assert "control" not in paths["table.csv"].read_text()
    page = paths["index.html"].read_text()
    assert "Price breakdown" in page
    assert "63.5 to the method" in page
    prices = page.split("Price breakdown")[1].partition("</table>")[0]
    (asr_row,) = [row for row in prices.split("</tr>") if ">asr</td>" in row]
    assert asr_row.count("95% Wilson interval of the counts pooled over all seeds") == 4
    for name in CONTROLS["badnet", 0]:
        assert f'id="run-{control_key(name, 0)}"' in page
    console = Console(record=True, width=160, file=io.StringIO())
    print_tables(priced, console)
    said = console.export_text()
    assert "same steps and pairs" in said
    assert "63.5 to the method" in " ".join(said.split())


def test_the_command_of_a_control_runs_its_defense_with_controls(priced: Store) -> None:
    (run,) = [run for run in load_runs(priced) if run.defense == "control_size" and run.seed == 0]
    command = command_of(run)
    assert "--defense safeclip" in command
    assert "--controls" in command
    assert "--set defense.safeclip.threshold=0.9" in command
    assert not [part for part in command if "control_size" in part]
