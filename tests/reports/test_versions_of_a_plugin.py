"""Runs of an edited plugin file: each version has its own rows, the current one first, earlier ones marked."""

from pathlib import Path
from typing import Any

import pytest

from bench.matrix.request_schema import RequestRecord
from bench.matrix.store import Store
from bench.reports.records import load_runs
from bench.reports.sections import sections_of
from bench.reports.tables import asr_table

from . import records_maker as maker

FIRST, SECOND = "a" * 64, "b" * 64


def _write(store: Store, monkeypatch: pytest.MonkeyPatch, source: str, seed: int, finished: str | None, asr: float) -> None:
    """A cell of the defense `safeclip` from a file with this digest; without a record if `finished` is None."""
    plain = maker.spec_of

    def spec_of(*parts: Any, **others: Any) -> maker.Record:
        spec = plain(*parts, **others)
        return {**spec, "defense": {**spec["defense"], "source": source}}

    with monkeypatch.context() as patch:
        patch.setattr(maker, "spec_of", spec_of)
        if finished:
            maker.write_training(store, "badnet", "safeclip", seed)
            maker.write_evals(store, "badnet", "safeclip", seed, (asr, 0.7, 0.8, 0.6))
            key = maker.key_for("badnet", "safeclip", seed)
            record = store.run_record(key)
            assert record
            store.write_run(key, maker.with_provenance(record, finished=finished))
        else:
            cells = [maker.cell_of("badnet", "safeclip", seed)]
            store.write_request(f"request{seed}", RequestRecord.of({"cells": cells}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def _rows(store: Store) -> list[tuple[str, str]]:
    (section,) = sections_of(load_runs(store))
    table = asr_table(section)
    assert table
    return [(row.defense, f"{row.cells[0].stat.mean:.2f}" if row.cells[0].stat else row.cells[0].word) for row in table.rows]


@pytest.mark.parametrize("newest", [FIRST, SECOND])
def test_the_current_code_comes_first(store: Store, monkeypatch: pytest.MonkeyPatch, newest: str) -> None:
    oldest = FIRST if newest == SECOND else SECOND
    for seed in (0, 1):
        _write(store, monkeypatch, newest, seed, "2026-03-01T00:00:00+00:00", 0.1)
        _write(store, monkeypatch, oldest, seed, "2026-02-01T00:00:00+00:00", 0.9)
    assert _rows(store) == [
        (f"safeclip (source={newest[:12]})", "0.10"),
        (f"safeclip (source={oldest[:12]}), earlier code", "0.90"),
    ]


def test_requested_code_counts_as_the_current(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(store, monkeypatch, FIRST, 0, "2026-03-01T00:00:00+00:00", 0.5)
    _write(store, monkeypatch, SECOND, 0, None, 0.0)
    assert [name for name, _ in _rows(store)] == [
        f"safeclip (source={SECOND[:12]})",
        f"safeclip (source={FIRST[:12]}), earlier code",
    ]


def test_a_single_version_has_no_mark(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(store, monkeypatch, FIRST, 0, "2026-03-01T00:00:00+00:00", 0.5)
    assert _rows(store) == [("safeclip", "0.50")]
