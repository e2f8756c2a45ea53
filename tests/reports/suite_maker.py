"""Requests suites over the runs of `records_maker`: conditions that are done, failed, missing, and without runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.matrix.request_schema import RequestRecord
from bench.matrix.store import Store

from .records_maker import cell_of, key_for, make

SEEDS = {("badnet", "safeclip"): (0, 1, 2), ("wanet", "safeclip7"): (0,)}
PAPER_DATA = ("cc1m", "mscoco")
ATTACKS = ("badnet", "wanet")


def keys_of(attack: str, defense: str) -> list[str]:
    return [key_for(attack, defense, seed) for seed in SEEDS.get((attack, defense), (0, 1))]


def ask(store: Store, name: str, runs: dict[str, list[str]], reasons: dict[str, str], **more: Any) -> None:
    suite = {"name": name, "instead": "scenes", "runs": runs, "reasons": reasons}
    store.write_request(
        f"suite-{name}-{len(runs)}", RequestRecord.of({"cells": [cell_of("badnet", "clip", 0)], "suite": suite | more})
    )


def make_suites(root: Path) -> Store:
    """Table 1 on two of four data sets, 2 and 6 in part."""
    store = make(root)
    conditions = [(attack, defense) for attack in ATTACKS for defense in ("clip", "roclip", "safeclip")]
    runs = {f"{data} | {attack} | {defense}": keys_of(attack, defense) for data in PAPER_DATA for attack, defense in conditions}
    ask(store, "table1", runs, {"cc1m | tdpa | clip": "the attack tdpa is not available here"})
    unpoisoned = {"cc3m | none | clip": keys_of("none", "clip"), "cc3m | none | safeclip": keys_of("badnet", "safeclip")}
    ask(store, "table2", unpoisoned, {})
    thresholds = {"0.9": "safeclip", "0.7": "safeclip7"}
    ask(
        store,
        "table6",
        {f"cc1m | tdpa | safeclip t={t}": [key_for("badnet", defense, 0)] for t, defense in thresholds.items()},
        {},
    )
    ask(store, "figure2", {"cc1m | tdpa | safeclip": keys_of("badnet", "safeclip")}, {})
    return store
