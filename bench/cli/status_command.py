"""`bench status`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import out_option

if TYPE_CHECKING:
    from bench.matrix.heartbeat import HeartbeatState
    from bench.matrix.store import Store
    from bench.reports.records import Run


@click.command("status")
@out_option
def command(out: Path) -> None:
    """Show which cells are done, running, failed and waiting, from records, locks and heartbeats.

    A cell is running while a process holds its lock. If that process died, the cell is waiting, and the next `bench run`
    resumes it from its checkpoint.
    """
    from bench.matrix.store import Store
    from bench.reports.records import load_runs

    store = Store.open(out)
    counts: Counter[str] = Counter()
    lines = []
    for run in load_runs(store):
        state, note = _state(store, run)
        counts[state] += 1
        if note:
            lines.append(f"{state:11}  {run.defense} · {run.attack} · {run.data} · seed {run.seed}: {note}")
    order = ("done", "running", "failed", "waiting", "unsupported")
    click.echo(f"{counts.total()} cells: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state]))
    for line in sorted(lines, key=lambda line: order.index(line.split()[0])):
        click.echo(line)
    for path, reason in sorted(store.damaged.items()):
        click.echo(f"damaged      {path}: {reason}")


def _state(store: Store, run: Run) -> tuple[str, str]:
    """The state of a cell, and a note or ""."""
    from bench.matrix.heartbeat import is_locked, read_heartbeat

    if run.status in ("done", "unsupported"):
        return run.status, ""
    beat = read_heartbeat(store, run.key)
    if is_locked(store, run.key):
        return "running", _running(beat) if beat else "no heartbeat yet"
    if run.status == "failed":
        return "failed", next(each.reason for each in run.evaluations if each.status == "failed")
    checkpoint = any(store.run_dir(run.key).glob("checkpoint*.pt"))
    if beat is None and not checkpoint:
        return "waiting", ""
    then = "will resume from its checkpoint" if checkpoint else "will start over"
    return "waiting", f"{_holder(beat)} stopped{_share(beat)}; {then}" if beat else f"interrupted; {then}"


def _running(beat: HeartbeatState) -> str:
    left = beat.seconds_left if beat.stage == "train" else None
    since = datetime.fromtimestamp(beat.since).strftime("%Y-%m-%d %H:%M")
    return f"{beat.stage}{_share(beat)}, {_holder(beat)} since {since}" + (f", ETA {left / 60:.0f} min" if left else "")


def _holder(beat: HeartbeatState) -> str:
    return f"{beat.host} pid {beat.pid}"


def _share(beat: HeartbeatState) -> str:
    return "" if beat.share is None or beat.stage != "train" else f" {beat.share:.0%}"
