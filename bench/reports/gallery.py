"""The figures of a section: for each attack one panel for each defense, of its lowest seed with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from bench.matrix.schema import Examples, RunRecord
from bench.reports.figures import HeatMap, Plot, extent, heat_map, hundredths, mixture_plot, overlap_plot
from bench.reports.labels import number
from bench.reports.records import Run
from bench.reports.sections import Group, Section
from bench.reports.similarities import Distribution, Split, distribution_of, examples_of, split_of

Data = TypeVar("Data")
Found = list[tuple[Group, Run, Data]]


@dataclass(frozen=True)
class Panel:
    defense: str
    seed: int
    anchor: str
    note: str
    drawing: HeatMap | Plot


@dataclass(frozen=True)
class HeatFigure:
    """Heat maps with a common colour scale."""

    panels: list[Panel]
    low: str
    high: str
    poison: bool


@dataclass(frozen=True)
class AttackFigures:
    """The figures of one attack; None if no run has the data."""

    attack: str
    examples: HeatFigure | None
    splits: list[Panel]
    overlaps: list[Panel]


def figures_of(section: Section) -> list[AttackFigures]:
    """The figures of all attacks that have any."""
    found = [_figures(section, attack) for attack in section.attacks if attack != "none"]
    return [figures for figures in found if figures.examples or figures.splits or figures.overlaps]


def _figures(section: Section, attack: str) -> AttackFigures:
    groups = [group for (at, _), group in section.groups.items() if at == attack]
    return AttackFigures(
        attack=attack,
        examples=_examples(_found(groups, examples_of)),
        splits=list(_splits(_found(groups, split_of))),
        overlaps=list(_overlaps(_found(groups, distribution_of))),
    )


def _found(groups: list[Group], read: Callable[[RunRecord], Data | None]) -> Found[Data]:
    """For each group, the run of the lowest seed that has the data, and the data."""
    found: Found[Data] = []
    for group in groups:
        seen = ((group, run, read(run.record)) for run in group.runs if run.record)
        found += [(group, run, data) for group, run, data in seen if data is not None][:1]
    return found


def _examples(found: Found[Examples]) -> HeatFigure | None:
    if not found:
        return None
    values = [value for _, _, examples in found for row in examples.values for value in row]
    low, high = min(values), max(values)
    panels = []
    for group, run, examples in found:
        title = f"{group.name}: cosine similarity of {len(examples.labels)} images (rows) and their captions (columns)"
        panels.append(_panel(group, run, _means(examples), heat_map(examples, low, high, title)))
    poison = any(examples.poison is not None for _, _, examples in found)
    return HeatFigure(panels, hundredths(low), hundredths(high), poison)


def _means(examples: Examples) -> str:
    """A sentence about the mean similarities in the figure."""
    count, poison = len(examples.labels), examples.poison
    own = [examples.values[at][at] for at in range(count) if at != poison]
    others = [examples.values[row][column] for row in range(count) for column in range(count) if row != column]
    poisoned = "" if poison is None else f"Poisoned pair {hundredths(examples.values[poison][poison])}, "
    text = f"{poisoned}clean pairs {hundredths(fmean(own))}, mismatched pairs {hundredths(fmean(others))} on average."
    return text[0].upper() + text[1:]


def _splits(found: Found[Split]) -> Iterator[Panel]:
    bins = extent(split.distribution.all for _, _, split in found) if found else (0, 0)
    for group, run, split in found:
        epoch = split.distribution.epoch
        title = f"{group.name}: similarity of all pairs and the fitted mixture after epoch {epoch}"
        yield _panel(group, run, _of_split(split), mixture_plot(split, bins, title))


def _of_split(split: Split) -> str:
    pairs, poisons = sum(split.distribution.all), sum(split.distribution.poison)
    fitted = "" if split.components else " No mixture could be fitted."
    return (
        f"After epoch {split.distribution.epoch}: the safe set has {split.safe:,} of {pairs:,} pairs "
        f"({number(split.safe / pairs)}%) and {split.poisons:,} of {poisons:,} poisons.{fitted}"
    )


def _overlaps(found: Found[Distribution]) -> Iterator[Panel]:
    bins = extent(counts for _, _, seen in found for counts in (seen.clean, seen.poison)) if found else (0, 0)
    for group, run, seen in found:
        title = f"{group.name}: similarity of clean and of poisoned pairs after epoch {seen.epoch}"
        note = f"After epoch {seen.epoch}: {sum(seen.clean):,} clean and {sum(seen.poison):,} poisoned pairs."
        yield _panel(group, run, note, overlap_plot(seen, bins, title))


def _panel(group: Group, run: Run, note: str, drawing: HeatMap | Plot) -> Panel:
    return Panel(group.defense, run.seed, f"run-{run.key}", note, drawing)
