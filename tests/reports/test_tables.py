"""Human-readable tables against numbers computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.canonical import digest, identity, without_nulls
from bench.matrix.schema import EvalRecord, PluginRecord, RunRecord, SpecRecord
from bench.matrix.store import Store, read_json
from bench.reports.frames import wide_frame
from bench.reports.labels import Labels, number, ranges, setting_titles
from bench.reports.records import Evaluation, Run, load_runs
from bench.reports.sections import Section, sections_of
from bench.reports.stats import Point, Stat, best_of, pooled
from bench.reports.tables import AsrTable, Cell, asr_table, utility_table

from .records_maker import EVIL, FLOOR, key_for, with_provenance, write_eval, write_evals, write_training


def sections(store: Store) -> list[Section]:
    return sections_of(load_runs(store))


def asr(store: Store, at: int = 0) -> AsrTable:
    table = asr_table(sections(store)[at])
    assert table is not None
    return table


def cell(table: AsrTable, attack: str, defense: str) -> Cell:
    return {row.defense: row for row in table.rows}[defense].cells[table.attacks.index(attack)]


def test_recipes_are_never_mixed(store: Store) -> None:
    found = sections(store)
    assert [(s.title, s.subtitle) for s in found] == [
        ("scenes · scenes-small", "from scratch · 8 epochs · batch 128 · learning rate 0.0015"),
        ("scenes · scenes-small", "from scratch · 16 epochs · batch 128 · learning rate 0.0015"),
    ]
    longer = cell(asr(store, 1), "badnet 0.5%", "safeclip")
    assert longer.stat
    assert longer.stat.seeds == (0,)
    assert longer.stat.mean == 0.12


def test_the_tracks_are_never_mixed(store: Store) -> None:
    """The same cells from given weights are a section of their own, which says what they were given as."""
    runs = load_runs(store)
    digest = "sha256-" + 16 * "0f1e"
    tuned = [_from_weights(run, digest) for run in runs]
    both = sections_of([*runs, *tuned])
    assert len(both) == 2 * len(sections_of(runs))
    told = {section.subtitle.partition(" · ")[0]: {run.weights for run in section.runs} for section in both}
    assert told == {"from scratch": {None}, "fine-tuned from openai sha256-0f1e0f1": {digest}}
    frame = wide_frame([*runs, *tuned])
    assert set(frame[frame.setting.str.contains(digest)].track) == {"fine-tuned"}
    assert set(frame[~frame.setting.str.contains(digest)].track) == {"from scratch"}


def _from_weights(run: Run, digest: str) -> Run:
    spec = run.spec.dump()
    record = run.record and with_provenance(run.record, pretrained="openai")
    return replace(
        run, key=f"{run.key}-t", spec=SpecRecord.of(spec | {"model": spec["model"] | {"weights": digest}}), record=record
    )


def test_mean_spread_and_seeds(store: Store) -> None:
    table = asr(store)
    assert table.attacks == [f"{EVIL} 1%", "badnet 0.5%", "wanet 2%"]
    defended = cell(table, "badnet 0.5%", "safeclip (threshold=0.9)")
    assert defended.stat
    assert defended.floor
    assert defended.triggered
    assert defended.stat.mean == pytest.approx((0.10 + 0.13) / 2)
    assert defended.stat.std == pytest.approx(((0.015**2 + 0.015**2) / 1) ** 0.5)  # sample deviation: n - 1 = 1
    assert (defended.stat.text, defended.stat.spread, defended.seeds) == ("11.5", "± 2.1", "2 of 3 seeds")
    assert defended.floor.mean == pytest.approx(FLOOR)
    assert defended.triggered.mean == pytest.approx((0.35 + 0.36) / 2)
    alone = cell(table, "badnet 0.5%", "safeclip (threshold=0.7)")
    assert alone.stat
    assert (alone.stat.text, alone.stat.spread, alone.seeds) == ("5.0", "[3.0, 7.0]", "1 seed")


def test_best_only_among_the_same_seeds_and_where_the_attack_is_effective(store: Store) -> None:
    table = asr(store)
    best = {(row.defense, attack) for row in table.rows for attack, c in zip(table.attacks, row.cells, strict=True) if c.best}
    # 5.0 of safeclip (threshold=0.7) is lower, but is one seed; wanet is ineffective; the evil attack has no undefended cell
    assert best == {("safeclip (threshold=0.9)", "badnet 0.5%")}
    assert [verdict.state for verdict in table.verdicts] == ["unknown", "yes", "no"]
    assert table.verdicts[0].message == "undefended ASR not measured"
    assert table.verdicts[2].message == "attack ineffective"
    note = next(note for note in table.notes if note.number == table.verdicts[2].note)
    assert note.where == ["wanet 2%"]
    assert "undefended ASR 18.0%, below the required 30.0%" in note.reason


@pytest.mark.parametrize(
    ("undefended", "floor", "state"),
    [(0.31, 0.05, "yes"), (0.30, 0.05, "yes"), (0.29, 0.05, "no"), (0.29, None, "no"), (0.31, None, "yes"),
     (0.45, 0.30, "no"), (0.55, 0.30, "yes"), (0.5, 0.3, "yes")],
)  # fmt: skip
def test_the_rule_for_ineffective_attacks(tmp_path: Path, undefended: float, floor: float | None, state: str) -> None:
    store = Store.create(tmp_path / "rule")
    for defense, value in (("clip", undefended), ("safeclip", 0.01)):
        write_training(store, "badnet", defense, 0)
        shares = {("asr", "all"): value} | ({} if floor is None else {("asr_floor", "all"): floor})
        write_eval(store, key_for("badnet", defense, 0), "asr", shares, better={"asr": "lower"})
    table = asr(store)
    assert table.verdicts[0].state == state
    assert cell(table, "badnet 0.5%", "safeclip").best == (state == "yes")


def test_the_rule_takes_the_mean_over_seeds(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "mean")
    for seed, value in enumerate((0.9, 0.1, 0.1)):  # mean 0.367: effective, though two seeds of three are not
        write_training(store, "badnet", "clip", seed)
        write_eval(store, key_for("badnet", "clip", seed), "asr", {("asr", "all"): value, ("asr_floor", "all"): 0.1})
    assert asr(store).verdicts[0].state == "yes"


def test_no_credit_without_an_undefended_cell(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "alone")
    for defense, value in (("roclip", 0.9), ("safeclip", 0.01)):
        write_training(store, "badnet", defense, 0)
        write_eval(store, key_for("badnet", defense, 0), "asr", {("asr", "all"): value})
    table = asr(store)
    assert table.verdicts[0].state == "unknown"
    assert not any(c.best for row in table.rows for c in row.cells)


def test_words_and_notes(store: Store) -> None:
    table = asr(store)
    words = {
        (row.defense, attack): c.word
        for row in table.rows
        for attack, c in zip(table.attacks, row.cells, strict=True)
        if not c.stat and c.asked
    }
    assert words == {
        ("roclip", "badnet 0.5%"): "failed",
        ("roclip", "wanet 2%"): "failed",
        (EVIL, "wanet 2%"): "unsupported",
        ("safeclip (threshold=0.7)", "wanet 2%"): "missing",
    }
    failed = cell(table, "badnet 0.5%", "roclip")
    note = next(note for note in table.notes if note.number == failed.notes[0])
    assert (note.status, note.reason) == ("failed", "train: RuntimeError: loss is NaN")
    assert note.where == ["roclip × badnet 0.5%, seed 0", "roclip × badnet 0.5%, seed 1"]
    assert not cell(table, f"{EVIL} 1%", "clip").asked


def test_utility_means_and_best(store: Store) -> None:
    table = utility_table(sections(store)[0])
    assert table
    assert [(c.evaluator, c.label) for c in table.columns] == [
        ("linear_probe", "mean"), ("linear_probe", "colour"), ("linear_probe", "shape"), ("zero_shot", "object"),
    ]  # fmt: skip
    rows = {(row.attack, row.defense): row.cells for row in table.rows}
    means = rows["badnet 0.5%", EVIL][0]
    assert means.stat
    assert means.stat.mean == pytest.approx(((0.85 + 0.65) / 2 + (0.86 + 0.61) / 2) / 2)
    assert means.stat.spread == "± 1.1"  # of 0.750 and 0.735
    best = {(*key, table.columns[at].label) for key, cells in rows.items() for at, c in enumerate(cells) if c.best}
    wanet = {("wanet 2%", "clip", label) for label in ("mean", "colour", "shape", "object")}
    assert best == {("badnet 0.5%", "clip", label) for label in ("mean", "colour", "shape", "object")} | wanet


def test_a_mean_over_tasks_needs_all_tasks(store: Store) -> None:
    run = key_for("badnet", "clip", 0)
    late = "2027-01-01T00:00:00+00:00"
    write_eval(store, run, "linear_probe", {("top1", "colour"): 0.99}, finished=late, key="late")
    table = utility_table(sections(store)[0])
    assert table
    mean, colour = next(row.cells for row in table.rows if (row.attack, row.defense) == ("badnet 0.5%", "clip"))[:2]
    assert mean.stat
    assert colour.stat
    assert mean.stat.seeds == (1,)
    assert colour.stat.seeds == (0, 1)
    assert mean.notes


def test_another_version_of_an_evaluator_is_another_column(store: Store) -> None:
    run = key_for("badnet", "clip", 0)
    values = {("top1", "object"): 0.99}
    write_eval(store, run, "zero_shot", values, finished="2027-01-01T00:00:00+00:00", key="late", version="2")
    table = utility_table(sections(store)[0])
    assert table
    assert [c.evaluator for c in table.columns][-2:] == ["zero_shot (version=1)", "zero_shot (version=2)"]


def test_runs_of_another_engine_are_not_compared(store: Store) -> None:
    record = read_json(store.run_dir(key_for("badnet", "clip", 0)) / "run.json")
    assert record
    record["spec"]["engine"] = "next"
    new = digest(without_nulls(record["spec"]))
    before = [run.key for section in sections(store) for run in section.runs]
    store.write_run(new, RunRecord.of({key: value for key, value in record.items() if key not in ("schema", "run_key")}))
    write_eval(store, new, "asr", {("asr", "all"): 0.5})
    (other,) = [section for section in sections(store) if "engine next" in section.subtitle]
    assert [run.key for run in other.groups["badnet 0.5%", "clip"].runs] == [new]
    assert [run.key for section in sections(store) if section.id != other.id for run in section.runs] == before


def test_shares_of_several_trigger_groups_are_pooled_by_images() -> None:
    measurements = [
        {"metric": "asr", "task": "a", "value": 0.5, "n": 100},
        {"metric": "asr", "task": "b", "value": 1.0, "n": 300},
    ]
    record = {"evaluator": {"name": "asr"}, "metrics": [{"name": "asr"}], "measurements": measurements}
    point = pooled(Evaluation("asr", "done", record=EvalRecord.of(record)), "asr")
    assert point
    assert point.value == pytest.approx(350 / 400)
    assert (point.low, point.high) == (pytest.approx(0.8389, abs=1e-4), pytest.approx(0.9039, abs=1e-4))  # Wilson, by hand
    measurements.append({"metric": "asr", "task": "all", "value": 0.8, "n": 400})
    total = pooled(Evaluation("asr", "done", record=EvalRecord.of(record)), "asr")
    assert total
    assert total.value == 0.8


def test_a_value_of_null_is_no_value(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "null")
    write_training(store, "badnet", "clip", 0)
    write_evals(store, "badnet", "clip", 0, (0.5, 0.5, 0.5, 0.5))
    path = next(store.run_dir(key_for("badnet", "clip", 0)).glob("evals/asr-*.json"))
    path.write_text(path.read_text().replace('"value": 0.5', '"value": null'))
    found = cell(asr(store), "badnet 0.5%", "clip")
    assert (found.stat, found.word) == (None, "no value")


def test_best_of() -> None:
    def stat(value: float, *seeds: int, identity: str = "") -> Stat:
        return Stat(seeds, tuple(Point(value, identity=identity) for _ in seeds))

    assert best_of([stat(0.2, 0), stat(0.1, 0), None], "lower") == {1}
    assert best_of([stat(0.2, 0), stat(0.1, 0)], "higher") == {0}
    assert best_of([stat(0.2, 0), stat(0.1, 0)], "neither") == set()
    assert best_of([stat(0.2, 0), stat(0.1, 1)], "lower") == set()
    assert best_of([stat(0.2, 0, identity="1"), stat(0.1, 0, identity="2")], "lower") == set()
    assert best_of([stat(0.20001, 0), stat(0.20002, 0)], "lower") == {0, 1}  # equal as shown
    assert best_of([stat(0.1, 0), stat(0.2, 0), stat(0.3, 0, 1), stat(0.4, 0, 1)], "lower") == {2}


def test_labels_are_unique() -> None:
    one = PluginRecord.of({"name": "a", "version": "1", "params": {"rate": 0.01, "patch": {"size": 6}}})
    other = PluginRecord.of({"name": "a", "version": "1", "params": {"rate": 0.01, "patch": {"size": 4}}})
    newer = PluginRecord.of({**one.dump(), "version": "2", "source": None})
    assert Labels([one]).of(PluginRecord.of({**one.dump(), "source": None})) == "a 1%"
    labels = Labels([one, other])
    assert (labels.of(one), labels.of(other)) == ("a 1% (patch.size=6)", "a 1% (patch.size=4)")
    labels = Labels([one, newer])
    assert (labels.of(one), labels.of(newer)) == ("a 1% (version=1)", "a 1% (version=2)")
    close = PluginRecord.of({"name": "a", "params": {"rate": 0.010000001}})
    labels = Labels([PluginRecord.of({"name": "a", "params": {"rate": 0.01}}), close])
    assert labels.of(close).startswith("a 1% #")


def test_words() -> None:
    assert ranges([3, 0, 1, 2, 7, 0]) == "0–3, 7"
    assert [number(0.12345), number(-0.5), number(None), number(1234.5, "seconds")] == ["12.3", "−50.0", "–", "1.23e+03"]
    common = {"model": {"name": "m"}, "train": {"epochs": 1, "crop": 0.9}}
    settings = [identity({"data": {"name": "d", "params": {"size": size}}, **common}) for size in (1, 2)]
    titles = [("d · m", f"from scratch · 1 epoch · data.size {size}") for size in (1, 2)]
    assert list(setting_titles(settings, {}).values()) == titles
