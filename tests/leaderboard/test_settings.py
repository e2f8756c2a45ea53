"""Ranks and numbers, against what follows by hand from the table in `records_maker`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import pytest

from bench.leaderboard.board import load_board
from bench.leaderboard.faulty import Faulty
from bench.leaderboard.settings import Row, Setting, settings_of
from bench.matrix.store import Store
from tests.reports import records_maker as maker

from .conftest import edit, rekeyed

CLIP, SAFE, SAFE7 = "clip", "safeclip (threshold=0.9)", "safeclip (threshold=0.7)"
Copy = Callable[..., Path]


def _setting(folders: Sequence[Path], faults: Sequence[Faulty] = (), epochs: int = 8) -> Setting:
    (found,) = [each for each in settings_of(load_board(folders), faults) if f" {epochs} epochs" in each.recipe]
    return found


def _rows(*args: object, **options: object) -> dict[str, Row]:
    return {row.label: row for row in _setting(*args, **options).rows}  # type: ignore[arg-type]


def test_numbers_and_ranks(made: Path) -> None:
    setting = _setting([made])
    assert setting.attacks == ("badnet 0.5%",)  # wanet does not take, and clip was not run against the third
    assert [(row.rank, row.label, row.why) for row in setting.rows] == [
        (1, SAFE7, ""),
        (2, SAFE, ""),
        (3, maker.EVIL, ""),
        (None, CLIP, "undefended"),
        (None, "roclip", "0 of 1 attacks"),
    ]
    row = setting.rows[1]
    assert row.verdict is not None
    assert (row.verdict.worst.attack, row.seeds, row.level) == ("badnet 0.5%", 2, "own")
    assert (row.verdict.worst.asr, row.verdict.mean, row.verdict.time) == pytest.approx((0.115, 0.115, 1.0))
    numbers = [maker.NUMBERS[attack, "safeclip"] for attack in ("badnet", "wanet")]
    assert row.utility["zero_shot"] == pytest.approx(fmean(each[2] for rows in numbers for each in rows))
    assert row.utility["linear_probe"] == pytest.approx(fmean(value for rows in numbers for each in rows for value in each[3:]))


def test_a_setting_is_a_recipe(made: Path) -> None:
    longer = _rows([made], epochs=16)
    assert longer[SAFE.partition(" ")[0]].verdict.worst.asr == pytest.approx(0.12)  # type: ignore[union-attr]
    assert len({each.id for each in settings_of(load_board([made]), ())}) == 2


def test_the_worst_attack_ranks_and_a_missing_one_leaves_no_rank(copy: Copy) -> None:
    folder = copy("taking")
    for seed, value in ((0, 0.8), (1, 0.9)):  # wanet takes now
        _change_asr(folder, ("wanet", "clip", seed), value)
    _change_asr(folder, ("wanet", "safeclip", 0), 0.4)
    rows = _rows([folder])
    assert rows[SAFE].verdict.worst.attack == "wanet 2%"  # type: ignore[union-attr]
    assert rows[SAFE].verdict.worst.asr == pytest.approx((0.4 + 0.06) / 2)  # type: ignore[union-attr]
    assert rows[SAFE].verdict.mean == pytest.approx((0.115 + 0.23) / 2)  # type: ignore[union-attr]
    assert (rows[SAFE].rank, rows[SAFE7].rank, rows[SAFE7].why) == (1, None, "1 of 2 attacks")


def test_the_worst_attack_ranks_before_the_mean(copy: Copy) -> None:
    folder = copy("taking")
    for seed, value in ((0, 0.8), (1, 0.9)):
        _change_asr(folder, ("wanet", "clip", seed), value)
    _change_asr(folder, ("wanet", "safeclip", 0), 0.4)  # a worst ASR of .23 and a mean of .1725
    store = Store.open(folder)
    maker.write_training(store, "wanet", "safeclip7", 0)
    maker.write_evals(store, "wanet", "safeclip7", 0, (0.28, 0.7, 0.8, 0.6))  # .28 and .165
    rows = _rows([folder])
    assert rows[SAFE7].verdict.mean < rows[SAFE].verdict.mean  # type: ignore[union-attr]
    assert (rows[SAFE].rank, rows[SAFE7].rank) == (1, 2)


def _change_asr(folder: Path, cell: tuple[str, str, int], value: float) -> None:
    (path,) = (folder / "runs" / maker.key_for(*cell) / "evals").glob("asr-*.json")
    edit(path, lambda tree: [each.update(value=value) for each in tree["measurements"] if each["metric"] == "asr"])


@pytest.mark.parametrize(
    ("first", "second", "asr", "shown"),
    [
        (None, None, 0.60, (0.60, "own")),  # both one's own: the worse
        (None, None, 0.01, (0.10, "own")),
        (None, "claimed", 0.60, (0.10, "own")),  # a claim does not push down what was verified
        (None, "consistent", 0.60, (0.10, "own")),
        (None, "measured again", 0.60, (0.60, "measured again")),
        ("claimed", "trained again", 0.60, (0.60, "trained again")),
        ("claimed", "measured again", 0.01, (0.01, "measured again")),  # nor hold up
        ("claimed", "claimed", 0.60, (0.60, "claimed")),
        ("claimed", "consistent", 0.01, (0.10, "claimed")),
    ],
)
def test_the_worst_verified_copy_stands(
    first: str | None, second: str | None, asr: float, shown: tuple[float, str], copy: Copy
) -> None:
    folders = [copy("one", level=first), copy("two", asr=asr, level=second)]
    for given in (folders, folders[::-1]):
        board = load_board(given)
        (run,) = [each for each in board.runs if each.key == maker.key_for("badnet", "safeclip", 0)]
        (value,) = [m.value for e in run.evaluations if e.name == "asr" for m in e.measurements if m.metric == "asr"]
        assert (value, board.origins[run.key].level) == shown
        assert len(board.runs) == len({each.key for each in board.runs})
        assert _rows(given)[SAFE].verdict.worst.asr == pytest.approx((shown[0] + 0.13) / 2)  # type: ignore[union-attr]


def test_the_lowest_utility_of_copies_stands(copy: Copy) -> None:
    folders = [copy("one"), copy("two")]
    (path,) = (folders[1] / "runs" / maker.key_for("badnet", "clip", 0) / "evals").glob("zero_shot-*.json")
    edit(path, lambda tree: tree["measurements"][0].update(value=0.5))
    assert _rows(folders)[CLIP].utility["zero_shot"] == pytest.approx(fmean([0.5, 0.75, 0.77, 0.77, 0.80, 0.78]))


def test_a_run_that_one_folder_only_asks_for(copy: Copy) -> None:
    asking = copy("asking")
    key = maker.key_for("badnet", "safeclip", 0)
    for path in sorted((asking / "runs" / key).rglob("*.json")):
        path.unlink()
    assert _rows([asking])[SAFE].seeds == 1
    assert _rows([asking, copy("whole")])[SAFE].seeds == 2


def test_tracks_are_never_mixed(copy: Copy) -> None:
    tuned = rekeyed(copy("tuned"), lambda spec: spec["model"].update(weights="sha256-" + "0" * 64))
    settings = settings_of(load_board([copy("scratch"), tuned]), ())
    assert sorted(each.track for each in settings) == ["fine-tuned", "fine-tuned", "from scratch", "from scratch"]
    for each in settings:
        assert {run.weights is None for run in each.section.runs} == {each.track == "from scratch"}


def test_a_defense_that_did_not_engage_has_no_rank(copy: Copy) -> None:
    folder = copy("idle")
    limit = {"what": "share", "advice": "train longer", "engaged": False, "value": 0.0}
    edit(folder / "runs" / maker.key_for("badnet", "safeclip7", 0) / "run.json", lambda tree: tree.update(engagement=[limit]))
    rows = _rows([folder])
    assert (rows[SAFE7].rank, rows[SAFE7].why, rows[SAFE].rank) == (None, "did not engage", 1)


DEFENSE = Faulty(kind="defense", name="safeclip", version="1", reason="its safe set leaked")


def test_a_faulty_defense_is_marked_and_has_no_rank(made: Path) -> None:
    setting = _setting([made], [DEFENSE])
    rows = {row.label: row for row in setting.rows}
    assert rows[SAFE].why == rows[SAFE7].why == "faulty: safeclip 1: its safe set leaked"
    assert (rows[SAFE].rank, rows[maker.EVIL].rank) == (None, 1)
    assert rows[SAFE].verdict is not None
    (note,) = [note for note in setting.asr.notes if note.status == "faulty"]  # type: ignore[union-attr]
    marked = {row.defense for row in setting.asr.rows for cell in row.cells if note.number in cell.notes}  # type: ignore[union-attr]
    assert marked == {SAFE, SAFE7}


@pytest.mark.parametrize(
    "fault",
    [
        Faulty(kind="defense", name="safeclip", version="2", reason="x"),
        Faulty(kind="defense", name="safe", version="1", reason="x"),
        Faulty(kind="attack", name="safeclip", version="1", reason="x"),
        Faulty(kind="defense", name="safeclip", source="abcdef", reason="x"),
        Faulty(kind="engine", version="9", reason="x"),
    ],
)
def test_other_versions_are_not_marked(fault: Faulty, made: Path) -> None:
    assert not [row for row in _rows([made], [fault]).values() if row.why.startswith("faulty")]


@pytest.mark.parametrize(
    "fault",
    [
        Faulty(kind="evaluator", name="asr", version="1", reason="x"),
        Faulty(kind="data", name="scenes", version="1", reason="x"),
    ],
)
def test_what_every_run_uses(fault: Faulty, made: Path) -> None:
    assert all(row.why.startswith("faulty") for row in _rows([made], [fault]).values() if row.label != "roclip")


def test_a_defense_on_a_faulty_one_and_faulty_sources(copy: Copy) -> None:
    folder = rekeyed(
        copy("based"),
        lambda spec: (
            spec["defense"].update(builds_on={"name": "clip", "version": "0", "source": "abcdef0123", "params": {}})
            if spec["defense"]["name"] == "safeclip"
            else None
        ),
    )
    fault = Faulty(kind="defense", name="clip", source="abcdef", reason="edited")
    rows = _rows([folder], [fault])
    assert {label for label, row in rows.items() if row.why.startswith("faulty")} == {SAFE, SAFE7}


def test_a_faulty_attack_does_not_count(copy: Copy) -> None:
    folder = copy("taking")
    for seed in (0, 1):
        _change_asr(folder, ("wanet", "clip", seed), 0.9)
    fault = Faulty(kind="attack", name="badnet", version="1", reason="its patch was invisible")
    setting = _setting([folder], [fault])
    assert setting.attacks == ("wanet 2%",)
    rows = {row.label: row for row in setting.rows}
    assert (rows[SAFE].verdict.worst.attack, rows[SAFE].rank) == ("wanet 2%", 1)  # type: ignore[union-attr]
    assert rows[SAFE].verdict.mean == pytest.approx(0.07)  # type: ignore[union-attr]
    assert rows[SAFE7].why == "0 of 1 attacks"
    verdicts = dict(zip(setting.asr.attacks, setting.asr.verdicts, strict=True))  # type: ignore[union-attr]
    assert verdicts["badnet 0.5%"].message == "faulty"
    rows = _rows([copy("none")], [fault])
    assert {row.why for row in rows.values() if row.label in (SAFE, SAFE7)} == {"no effective attack"}


def test_damaged_records_are_named(copy: Copy) -> None:
    folder = copy("damaged")
    path = folder / "runs" / maker.key_for("badnet", "safeclip", 0) / "run.json"
    path.write_text(json.dumps({"schema": 2}))
    assert [name for name, _ in load_board([folder]).damaged] == [f"damaged/{path.relative_to(folder)}"]
