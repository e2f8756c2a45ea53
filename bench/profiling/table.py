"""Profiles as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.console import print_plain
from bench.profiling.profile import Profile

_BETWEEN = ("selection", "scoring_forward", "scoring_rest", "split")
_STAGES = ("load", "augment", "forward", "backward", "optimiser", *_BETWEEN, "other")


def print_profile(profile: Profile, undefended: Profile, console: Console) -> None:
    """Print a column for each phase, for the work between epochs, and for the whole run; shares are of the column's time."""
    between = {name: profile["stages"][name] for name in _BETWEEN}
    columns = {phase["phase"]: phase for phase in profile["phases"]}
    columns |= {"between epochs": {"seconds": sum(between.values()), "stages": between}, "whole run": profile}
    sizes = f"{profile['epochs']} epochs, {profile['train_pairs']:,} pairs, batches of {profile['batch_size']}"
    table = Table(title=f"{profile['defense']}: {sizes}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name in ("pairs", "pairs_per_second"):
        table.add_row(name.replace("_", " "), *(f"{part[name]:,.0f}" if name in part else "" for part in columns.values()))
    table.add_row("seconds", *(f"{part['seconds']:,.1f}" for part in columns.values()))
    for stage in _STAGES:
        table.add_row(f"{stage.replace('_', ': ')}, %", *(_share(part, stage) for part in columns.values()))
    console.print(table)
    print_plain(console, f"whole run, predicted: {profile['seconds']:.0f} s, {_relative(profile, undefended)}")
    print_plain(console, f"outside forward, backward and optimiser of the steps: {_outside(profile)}")
    rate, most = profile["flop_per_second"], profile["matmul_flop_per_second"]
    machine = f"a matrix product in {profile['precision']} here ({most / 1e9:,.0f})"
    print_plain(console, f"{rate / 1e9:,.1f} GFLOP/s, {rate / most:.1%} of {machine}")
    print_plain(console, f"peak memory {_memory(profile)}\n")


def size_line(profile: Profile) -> str:
    """One line on a defense at one size, printed while others are measured."""
    cost = 1e6 * profile["seconds"] / profile["train_pairs"]
    return f"{profile['defense']}, {profile['train_pairs']:,} pairs: {cost:,.0f} us/pair, peak memory {_memory(profile)}"


def print_sizes(profiles: Sequence[Profile], console: Console) -> None:
    """Print microseconds per training pair of the whole run, of the work between epochs, and of the set-up.

    They are constant if cost is linear; "ratio" is relative to the smallest size.
    """
    table = Table(box=box.SIMPLE_HEAD)
    costs = ("us/pair", "ratio", "between epochs", "set up", "peak memory")
    for column in ("defense", "pairs", *costs):
        table.add_column(column, justify="left" if column == "defense" else "right")
    smallest: dict[str, float] = {}
    for profile in sorted(profiles, key=lambda each: (each["defense"], each["train_pairs"])):
        micro = 1e6 / profile["train_pairs"]
        cost = profile["seconds"] * micro
        table.add_row(
            profile["defense"],
            f"{profile['train_pairs']:,}",
            f"{cost:,.0f}",
            f"{cost / smallest.setdefault(profile['defense'], cost):.2f}",
            f"{sum(profile['stages'][name] for name in _BETWEEN) * micro:,.1f}",
            f"{profile['setup_seconds'] * micro:,.1f}",
            _memory(profile),
        )
    console.print(table)


def _share(part: dict[str, Any], stage: str) -> str:
    return f"{100 * part['stages'][stage] / max(part['seconds'], 1e-9):.1f}" if stage in part["stages"] else ""


def _relative(profile: Profile, undefended: Profile) -> str:
    if profile is undefended:
        return "the reference"
    return f"{profile['seconds'] / undefended['seconds']:.2f} times {undefended['defense']}'s {undefended['seconds']:.0f} s"


def _outside(profile: Profile) -> str:
    scoring = profile["shares"]["scoring_forward"]
    whole, rest = profile["outside_with_scoring_forward"], profile["outside_without_scoring_forward"]
    return f"{whole:.1%}, of which forward passes of scoring {scoring:.1%}; without these {rest:.1%}"


def _memory(profile: Profile) -> str:
    rss, cuda = profile["peak_bytes"]["rss"], profile["peak_bytes"]["cuda"]
    return f"{rss / 2**20:,.0f} MiB" + (f", on the GPU {cuda / 2**20:,.0f} MiB" if cuda is not None else "")
