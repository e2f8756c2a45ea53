"""Shapes of figures against values computed by hand: heights, densities, colours, ticks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.matrix.schema import Examples
from bench.reports.figures import (
    BOTTOM,
    CELL,
    LEFT,
    LETTERS,
    MAP_LEFT,
    MAP_TOP,
    RIGHT,
    TOP,
    Scale,
    coordinate,
    edge,
    extent,
    heat_map,
    mixture_density,
    mixture_plot,
    overlap_plot,
    round_numbers,
    shortened,
)
from bench.reports.similarities import Component, Distribution, Split

LOWER, UPPER = Component(0.0, 0.05, 0.25), Component(0.5, 0.1, 0.75)


def counts(**filled: int) -> tuple[int, ...]:
    """`b20=3`: three pairs in bin 20, which starts at 0."""
    return tuple(filled.get(f"b{at}", 0) for at in range(40))


DISTRIBUTION = Distribution(2, clean=counts(b20=10, b21=30, b30=60), poison=counts(b18=1, b20=3))
SPLIT = Split(DISTRIBUTION, (LOWER, UPPER), cut=0.25, safe=60, poisons=1)


def test_the_axis_reaches_from_the_first_bin_with_a_count_to_the_last() -> None:
    bins = extent([DISTRIBUTION.clean, DISTRIBUTION.poison])
    assert bins == (18, 31)
    assert [edge(at) for at in bins] == pytest.approx([-0.1, 0.55])
    plot = overlap_plot(DISTRIBUTION, bins, "")
    assert plot.bars[-1].x + plot.bars[-1].width == pytest.approx(RIGHT)
    assert plot.outline[0] == pytest.approx((LEFT, BOTTOM))
    assert [tick.text for tick in plot.x_ticks] == ["0", "0.2", "0.4"]
    assert [tick.at for tick in plot.x_ticks] == pytest.approx([LEFT + (RIGHT - LEFT) * at / 13 for at in (2, 6, 10)])


def test_bars_are_shares_of_their_own_pairs() -> None:
    plot = overlap_plot(DISTRIBUTION, (18, 31), "")
    height = (BOTTOM - TOP) / 0.75  # the tallest is 3 of 4 poisons
    assert [bar.height for bar in plot.bars] == pytest.approx([0.1 * height, 0.3 * height, 0.6 * height])
    assert all(bar.y + bar.height == pytest.approx(BOTTOM) for bar in plot.bars)
    steps = [0, 0.25, 0.25, 0, 0, 0.75, 0.75, 0]
    assert [BOTTOM - y for _, y in plot.outline] == pytest.approx([step * height for step in steps])
    width = plot.bars[0].width
    assert [x - LEFT for x, _ in plot.outline] == pytest.approx([width * at for at in (0, 0, 1, 1, 2, 2, 3, 3)])


def test_bars_of_a_split_are_counts_of_all_pairs() -> None:
    plot = mixture_plot(replace(SPLIT, components=()), (18, 31), "")
    assert [bar.height for bar in plot.bars] == pytest.approx([(BOTTOM - TOP) * count / 60 for count in (1, 13, 30, 60)])
    assert plot.curves == ()


def test_density_at_the_means() -> None:
    root = math.sqrt(2 * math.pi)
    at_lower = 0.25 / (0.05 * root) + 0.75 / (0.1 * root) * math.exp(-0.5 * 5**2)
    assert mixture_density(0.0, [LOWER, UPPER]) == pytest.approx(at_lower)
    assert mixture_density(0.5, [UPPER]) == pytest.approx(0.75 / (0.1 * root))


def test_curves_are_in_pairs_a_bin_and_peak_at_their_means() -> None:
    plot = mixture_plot(SPLIT, (18, 31), "")
    assert [curve.kind for curve in plot.curves] == ["sum", "lower", "upper"]
    x, unit = Scale(-0.1, 0.55, LEFT, RIGHT), (BOTTOM - TOP) / 60
    for curve, component in zip(plot.curves[1:], (LOWER, UPPER), strict=True):
        top = min(curve.points, key=lambda point: point[1])
        peak = 104 * 0.05 * component.weight / (component.std * math.sqrt(2 * math.pi))
        assert top == pytest.approx((x.at(component.mean), BOTTOM - unit * peak))
    for curve in plot.curves:
        places = [point[0] for point in curve.points]
        assert places == sorted(places)
        assert LEFT <= places[0] < places[-1] <= RIGHT + 1e-9


def test_a_narrow_component_does_not_flatten_the_bars() -> None:
    plot = mixture_plot(replace(SPLIT, components=(replace(LOWER, std=0.0001), UPPER)), (18, 31), "")
    assert max(bar.height for bar in plot.bars) == pytest.approx((BOTTOM - TOP) / 2)


def test_the_cut_is_on_the_axis_or_left_out() -> None:
    cut = mixture_plot(SPLIT, (18, 31), "").cut
    assert cut is not None
    assert cut.at == pytest.approx(LEFT + (RIGHT - LEFT) * 0.35 / 0.65)
    assert cut.text == "safe from 0.25"
    assert mixture_plot(replace(SPLIT, cut=0.9), (18, 31), "").cut is None


def test_colours_of_the_heat_map_go_from_the_lowest_to_the_highest() -> None:
    values = [[(7 * row + column) / 48 for column in range(7)] for row in range(7)]
    drawing = heat_map(Examples(labels=["a"] * 6 + ["poison"], values=values), -1.0, 1.0, "seven")
    assert [cell.strength for cell in drawing.cells] == [f"{0.5 + at / 96:.2f}" for at in range(49)]
    assert [cell.poison for cell in drawing.cells] == [False] * 48 + [True]
    assert [name.poison for name in drawing.names] == [False] * 6 + [True]
    assert (drawing.cells[8].x, drawing.cells[8].y) == (MAP_LEFT + CELL, MAP_TOP + CELL)
    assert drawing.cells[-1].title == "poison × poison: 1.00"
    equal = heat_map(Examples(labels=["a"] * 7, values=[[0.3] * 7] * 7), 0.3, 0.3, "")
    assert {cell.strength for cell in equal.cells} == {"0.00"}


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("red ball 1", "red ball 1"),
        ("blue pyramid 12", "blue pyr… 12"),
        ("a" * 20, "a" * 11 + "…"),
        ("a " + "1" * 20, "a 111111111…"),
    ],
)
def test_long_labels_keep_the_number_of_their_pair(label: str, short: str) -> None:
    assert shortened(label) == short
    assert len(short) <= LETTERS


@pytest.mark.parametrize(
    ("low", "high", "most", "numbers"),
    [
        (0, 100, 4, [0, 50, 100]),
        (0, 0.31, 4, [0, 0.1, 0.2, 0.3]),
        (-0.1, 0.55, 6, [0, 0.2, 0.4]),
        (-1, 1, 6, [-1, -0.5, 0, 0.5, 1]),
        (0.05, 0.1, 6, [0.05, 0.06, 0.07, 0.08, 0.09, 0.1]),
        (0, 0.97, 1, [0]),
        (0.3, 0.3, 4, [0.3]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, most: int, numbers: list[float]) -> None:
    assert round_numbers(low, high, most) == pytest.approx(numbers)


def test_coordinates_are_short() -> None:
    assert [coordinate(value) for value in (12.0, 12.3456, -0.01, 100.96)] == ["12", "12.3", "0", "101"]
