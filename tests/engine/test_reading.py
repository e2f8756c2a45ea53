"""What a JSON file may hold to be a record, and what is said of one that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.canonical import digest
from bench.errors import UserError
from bench.matrix.reading import MAX_DEPTH, Damaged, read_object
from bench.matrix.schema import RunRecord
from bench.matrix.store import SCHEMA, Store

KEY = digest({})
"""Of a run without a spec."""


def read(folder: Path, text: str) -> object:
    path = folder / "record.json"
    path.write_text(text, encoding="utf-8")
    return read_object(path)


def nested(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


def test_lone_surrogates_are_replaced_in_texts_and_names(tmp_path: Path) -> None:
    found = read(tmp_path, r'{"a\udc00": ["\ud83d\ude42 \ud800", "\ufeffü", {"b": "\\ud800"}]}')
    assert found == {"a\ufffd": ["🙂 \ufffd", "\ufeffü", {"b": r"\ud800"}]}
    json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": [1, {"b": NaN}]}', "a.1.b: not a finite number"),
        ('{"a": -Infinity}', "a: not a finite number"),
        ('{"a": 1e400}', "a: not a finite number"),
        (f'{{"a": {2**63}}}', "a: a number beyond 64 bits"),
        (f'{{"a": {"9" * 5000}}}', "not valid JSON"),
        (r'{"\ud800": NaN}', "\ufffd: not a finite number"),
        ('{"a": ', "not valid JSON"),
        ("[1]", "not a JSON object"),
        (nested(MAX_DEPTH + 1), "nested too deep"),
        (nested(10**5), "nested too deep"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Damaged) as raised:
        read(tmp_path, text)
    assert said in str(raised.value)


def test_what_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    whole = {"a": [1, -1.5, True, None, "ü🙂", 2**63 - 1, 1e300], "": {}}
    assert read(tmp_path, json.dumps(whole)) == whole
    assert read(tmp_path, nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))
    assert read_object(tmp_path / "none.json") is None
    assert read_object(tmp_path / "record.json" / "below.json") is None


def test_a_shape_names_the_part_of_another_kind() -> None:
    for record, said in (
        ({"curves": [{"epoch": 0}, {"epoch": 1, "loss": "x"}]}, "curves.1.loss: should be a valid number"),
        ({"poison": {"captions": ["a", 7]}}, "poison.captions.1: should be a valid string"),
        ({"timing": {"stages": {"load": True}}}, "timing.stages.load: should be a valid number"),
        ({"weights": None}, "weights: should be a valid dictionary"),
    ):
        with pytest.raises(Damaged) as raised:
            RunRecord.of(record)
        assert str(raised.value) == said


def test_damaged_records_are_named_once_until_they_are_whole(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "out")
    for run in (KEY, "other"):
        store.write_run(run, RunRecord.of({"curves": []}))
    path = store.run_dir(KEY) / "run.json"
    whole = path.read_text()
    for text, said in (
        ((store.run_dir("other") / "run.json").read_text(), f"run_key: is 'other', expected {KEY}"),
        (whole.replace("[]", "7"), "curves: should be a valid list"),
        ("{}", f"schema: is None; this version reads up to {SCHEMA}"),
    ):
        path.write_text(text)
        assert store.run_record(KEY) is store.run_record(KEY) is None
        assert store.damaged == {f"runs/{KEY}/run.json": said}
    path.write_text(whole)
    assert store.run_record(KEY)
    assert store.damaged == {}


def test_only_reports_go_on_without_a_record_that_another_version_wrote_or_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "out")
    store.write_run("k", RunRecord.of({}))
    path = store.run_dir("k") / "run.json"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', '"schema": 99'))
    with pytest.raises(UserError, match="schema 99 is not known"):
        store.run_record("k")
    assert store.for_reports().run_record("k") is None
    assert store.damaged == {"runs/k/run.json": f"schema: is 99; this version reads up to {SCHEMA}"}

    def refuse(*arguments: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermissionError):
        store.run_record("k")
    assert store.for_reports().run_record("k") is None
    assert store.damaged == {"runs/k/run.json": "cannot be read (Permission denied)"}
