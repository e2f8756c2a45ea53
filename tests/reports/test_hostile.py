"""Names, captions and messages that try to inject markup."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.canonical import digest, without_nulls
from bench.matrix import reading
from bench.matrix import store as stores
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import Failure
from bench.matrix.store import Store
from bench.reports.latex import escaped
from bench.reports.page import render_page
from bench.reports.records import load_runs

from . import records_maker
from .records_maker import cell_of, write_evals, write_training

EVIL = """'"><evil evil=1 onload=alert(1)></title></script></style>{{ 7 * 7 }}&amp;"""
KEPT = {"run_key", "eval_key", "schema", "better", "unit", "finished", "name_of_metric"}


class _Tags(HTMLParser):
    """The tags, attributes and text of a page, including the details that its script opens."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.shown = ""
        self._folded = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs)}
        self._folded = (tag, attrs) == ("script", [("type", "text/html")])

    def handle_endtag(self, tag: str) -> None:
        self._folded = False

    def handle_data(self, data: str) -> None:
        if not self._folded:
            self.shown += data
            return
        inner = _Tags()
        inner.feed(data)
        self.seen |= inner.seen
        self.shown += inner.shown


def _spoilt(value: Any) -> Any:
    """Append the hostile string to every string."""
    if isinstance(value, dict):
        return {name: item if name in KEPT else _spoilt(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_spoilt(item) for item in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def test_nothing_in_a_record_becomes_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.create(tmp_path)
    cells = [cell_of("badnet", "clip", 0), cell_of("badnet", "safeclip", 0)]
    write = stores.write_json
    monkeypatch.setattr(stores, "write_json", lambda path, value: write(path, _spoilt(value)))
    monkeypatch.setattr(records_maker, "key_of", lambda *parts: "k" + "".join(filter(str.isalnum, str(parts)))[:30])
    monkeypatch.setattr(records_maker, "key_for", lambda *cell: digest(without_nulls(_spoilt(records_maker.spec_of(*cell)))))
    cells[0]["run_key"], cells[1]["run_key"] = (records_maker.key_for("badnet", name, 0) for name in ("clip", "safeclip"))
    store.write_request("q", RequestRecord.of({"cells": cells}))
    write_training(store, "badnet", "clip", 0)
    write_evals(store, "badnet", "clip", 0, (0.9, 0.8, 0.7, 0.6))
    store.write_failure(cells[1]["run_key"], Failure.of({"stage": "train", "error": "no", "traceback": "File"}))
    runs = load_runs(store)
    assert [run.status for run in runs] == ["done", "failed"]
    page = render_page(runs)
    assert "<evil" not in page
    tags = _Tags()
    tags.feed(page)
    assert {"evil", "onload"} & tags.seen == set()
    for shown in (f"a ball {records_maker.EVIL}{EVIL}", f"clip{EVIL}", f"no{EVIL}", f"File{EVIL}"):
        assert shown in tags.shown


def test_latex_commands_are_text() -> None:
    assert escaped(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"


def test_harmful_records_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    for content in ("[" * 10**6, '{"a":' * 10**6, '{"schema": 1' + "0" * 10**5 + "}"):
        path.write_text(content)
        assert stores.read_json(path) is None
    path.write_text("{}" + " " * 99)
    assert stores.read_json(path) == {}
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    assert stores.read_json(path) is None
