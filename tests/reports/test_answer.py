"""Which defense stops the attacks, and how sure that is, against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from bench.errors import UserError
from bench.matrix.store import Store
from bench.reports.answer import Answer, answer
from bench.reports.comparisons import comparisons
from bench.reports.records import load_runs
from bench.reports.scatter import APART, scatter
from bench.reports.sections import Section, sections_of
from bench.reports.terminal_comparisons import print_comparisons
from bench.reports.write import write_report

from . import records_maker as maker

SAFECLIP, EVIL = "safeclip (threshold=0.9)", maker.EVIL


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return maker.make(tmp_path / "made")


def section_of(store: Store) -> Section:
    return next(section for section in sections_of(load_runs(store)) if "8 epochs" in section.subtitle)


def found(store: Store) -> Answer:
    made = answer(section_of(store))
    assert made is not None
    return made


def test_differences_are_paired_and_adjusted_within_an_attack(store: Store) -> None:
    rows = {(row.measure, row.attack, row.defense, row.against): row for row in comparisons(section_of(store))}
    of_attack = [row for row in rows.values() if row.measure == "asr"]
    assert {row.attack for row in of_attack} == {"badnet 0.5%"}  # wanet is ineffective
    row = rows["asr", "badnet 0.5%", SAFECLIP, "clip"]
    reference = stats.ttest_rel([0.10, 0.13], [0.90, 0.94])
    assert row.result.difference == pytest.approx(0.115 - 0.92)
    assert row.result.p == pytest.approx(reference.pvalue)
    family = sorted(of_attack, key=lambda row: row.result.p)
    assert family[0].p == pytest.approx(min(1, len(family) * family[0].result.p))
    assert all(row.p >= row.result.p for row in family)


def test_defenses_are_compared_with_the_best_of_them(store: Store) -> None:
    against = {(row.defense, row.against) for row in comparisons(section_of(store)) if row.measure == "asr"}
    assert against == {(SAFECLIP, "clip"), (EVIL, "clip"), (EVIL, SAFECLIP)}


def test_utility_is_the_mean_over_the_attacks_that_both_were_run_with(store: Store) -> None:
    row = next(row for row in comparisons(section_of(store)) if (row.measure, row.defense) == ("zero_shot", SAFECLIP))
    assert row.attack == "all attacks"
    badnet, wanet = (0.70 + 0.72) / 2 - (0.76 + 0.75) / 2, (0.71 + 0.70) / 2 - (0.77 + 0.77) / 2
    assert row.result.difference == pytest.approx((badnet + wanet) / 2)
    assert row.equivalent == pytest.approx(row.result.equivalent(0.01))


def test_the_answer_counts_what_is_stopped(store: Store) -> None:
    made = found(store)
    assert made.attacks == ("badnet 0.5%",)
    verdicts = {verdict.defense: verdict for verdict in made.verdicts}
    safeclip, plain = verdicts[SAFECLIP], verdicts["clip"]
    assert [outcome.stopped for outcome in safeclip.outcomes] == [True]  # 11.5 against a floor of 8.5
    assert safeclip.worst.floor == pytest.approx(maker.FLOOR)
    assert safeclip.shown == 0
    assert safeclip.sentence.startswith(
        "stops 1 of 1 attack (none beyond the noise of the seeds); costs 5.5 points of zero_shot ["
    )
    assert plain.sentence == "is the undefended model: 1 attack with a mean ASR of 92.0%."
    assert verdicts[EVIL].sentence.startswith("stops none of 1 attack: badnet 0.5% (51.0%); ")
    assert (plain.front, safeclip.front, verdicts[EVIL].front) == (True, True, False)
    assert made.caveat.startswith("2 seeds: only differences")
    assert "in one seed" in verdicts["safeclip (threshold=0.7)"].sentence


def test_two_seeds_close_to_the_floor_are_beyond_noise_when_they_agree(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {**maker.NUMBERS, ("badnet", "safeclip"): [(0, 0.09, 0.7, 0.86, 0.66), (1, 0.0901, 0.72, 0.84, 0.64)]}
    monkeypatch.setattr(maker, "NUMBERS", numbers)
    safeclip = next(v for v in found(maker.make(store.root.parent / "sure")).verdicts if v.defense == SAFECLIP)
    assert safeclip.shown == 1


def test_no_effective_attack_is_no_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {key: of for key, of in maker.NUMBERS.items() if key[0] != "badnet"}
    monkeypatch.setattr(maker, "NUMBERS", numbers)
    assert answer(section_of(maker.make(store.root.parent / "weak"))) is None


def test_the_drawing_names_what_it_shows(store: Store) -> None:
    drawing = scatter(found(store))
    assert drawing is not None
    assert len(drawing.marks) == 4
    assert "safeclip (threshold=0.9): worst ASR 11.5%, zero_shot 70.8%" in drawing.title


def test_labels_of_equal_defenses_do_not_lie_over_one_another(store: Store) -> None:
    made = found(store)
    equal = [replace(made.verdicts[0], defense=name) for name in ("one", "two", "three")]
    drawing = scatter(replace(made, verdicts=tuple(equal)))
    assert drawing is not None
    heights = sorted(mark.label_y for mark in drawing.marks)
    assert all(second - first >= APART - 1e-6 for first, second in pairwise(heights))


def test_rows_of_the_file_are_those_of_the_page(store: Store) -> None:
    path = write_report(store, ("csv",))["comparisons.csv"]
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == sum(len(comparisons(section)) for section in sections_of(load_runs(store)))
    row = next(row for row in rows if (row["measure"], row["defense"], row["against"]) == ("asr", SAFECLIP, "clip"))
    assert float(row["difference"]) == pytest.approx(-0.805)
    assert float(row["p_holm"]) >= float(row["p"])


@pytest.fixture
def printed(store: Store) -> Callable[..., str]:
    def run(*names: str, metrics: tuple[str, ...] = ("asr", "zero_shot")) -> str:
        console = Console(file=io.StringIO(), width=80)
        print_comparisons(store, sections_of(load_runs(store)), *names, metrics, console)
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    return run


def test_two_defenses_in_the_terminal(printed: Callable[..., str]) -> None:
    text = printed(SAFECLIP, "clip")
    assert "ASR badnet 0.5%" in text
    assert "ASR wanet 2%" in text  # asked for by name, so also where the attack is ineffective
    assert "−80.5" in text


@pytest.mark.parametrize(
    ("names", "metrics", "message"),
    [
        (("saveclip", "clip"), ("asr",), "saveclip: no such defense in this results folder; did you mean"),
        ((SAFECLIP, "clip"), ("accuracy",), "--metric accuracy: no such metric"),
        (("safeclip (threshold=0.7)", "clip"), ("asr",), "nothing was measured with both on two seeds"),
    ],
)
def test_what_can_not_be_compared(
    printed: Callable[..., str], names: tuple[str, ...], metrics: tuple[str], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        printed(*names, metrics=metrics)
