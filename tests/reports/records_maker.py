"""Makes a small results folder by hand: done, missing, failed and unsupported cells, several seeds, two settings.

The numbers are a table in this file, so that tests can compute by hand what the report must say.
Run as a script to look at it: `python tests/reports/records_maker.py FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from bench.canonical import digest, without_nulls
from bench.matrix.request_schema import RequestRecord
from bench.matrix.schema import EvalRecord, Failure, RunRecord
from bench.matrix.store import Store

if __package__:
    from . import similarity_maker as similar
else:
    import similarity_maker as similar  # run as a script

EVIL = "<script>alert(1)</script>"
Record = dict[str, Any]
RATES = {"badnet": 0.005, "wanet": 0.02, EVIL: 0.01, "blended": 0.01}
THRESHOLDS: dict[str, Record] = {"safeclip": {"threshold": 0.9}, "safeclip7": {"threshold": 0.7}}

# (attack, defense) -> [(seed, ASR, zero-shot object, probe colour, probe shape)]
NUMBERS: dict[tuple[str, str], list[tuple[int, float, float, float, float]]] = {
    ("none", "clip"): [(0, 0.0, 0.80, 0.90, 0.70), (1, 0.0, 0.78, 0.92, 0.72)],
    ("badnet", "clip"): [(0, 0.90, 0.76, 0.88, 0.70), (1, 0.94, 0.75, 0.90, 0.68)],
    ("badnet", "safeclip"): [(0, 0.10, 0.70, 0.86, 0.66), (1, 0.13, 0.72, 0.84, 0.64)],
    ("badnet", "safeclip7"): [(0, 0.05, 0.61, 0.80, 0.60)],
    ("badnet", EVIL): [(0, 0.50, 0.66, 0.85, 0.65), (1, 0.52, 0.67, 0.86, 0.61)],
    ("wanet", "clip"): [(0, 0.20, 0.77, 0.89, 0.71), (1, 0.16, 0.77, 0.87, 0.69)],
    ("wanet", "safeclip"): [(0, 0.08, 0.71, 0.85, 0.66), (1, 0.06, 0.70, 0.85, 0.65)],
    (EVIL, "safeclip"): [(0, 0.30, 0.70, 0.85, 0.65)],
}
FLOOR = 0.085
OLD = 16
"""Records of so many epochs are from before similarities were recorded."""


def key_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def spec_of(attack: str, defense: str, seed: int, epochs: int = 8) -> Record:
    plain = "safeclip" if defense == "safeclip7" else defense
    return {
        "data": {"name": "scenes", "version": "1", "params": {"size": 16000}, "fingerprint": "f00dfeed01234567"},
        "attack": None
        if attack == "none"
        else {
            "name": attack,
            "version": "1",
            "source": None,
            "params": {"rate": RATES[attack], "target": "a red ball"},
        },
        "defense": {"name": plain, "version": "1", "source": None, "params": THRESHOLDS.get(defense, {})},
        "model": {"name": "scenes-small"},
        "train": {"epochs": epochs, "batch_size": 128, "lr": 0.0015, "precision": "bf16"},
        "seed": seed,
    }


def key_for(attack: str, defense: str, seed: int, epochs: int = 8) -> str:
    return digest(without_nulls(spec_of(attack, defense, seed, epochs)))


def cell_of(attack: str, defense: str, seed: int, unsupported: str | None = None, epochs: int = 8) -> Record:
    spec = spec_of(attack, defense, seed, epochs)
    reason = "needs an attack" if attack == "none" else None
    evaluators = [("asr", reason), ("linear_probe", None), ("zero_shot", None)]
    return {
        "run_key": key_for(attack, defense, seed, epochs),
        "data": "scenes",
        "model": "scenes-small",
        "attack": attack,
        "attack_rate": RATES.get(attack),
        "defense": spec["defense"]["name"],
        "seed": seed,
        "unsupported": unsupported,
        "spec": spec,
        "evaluators": [{"name": n, "eval_key": key_of(n), "unsupported": why} for n, why in evaluators],
    }


def write_training(store: Store, attack: str, defense: str, seed: int, epochs: int = 8) -> None:
    poison = {"hash": "ab" * 16, "added": 0, "replaced": 80, "targets": ["a red ball"], "captions": [f"a ball {EVIL}"]}
    loss = [3.9 / (1 + 0.35 * epoch) + 0.3 for epoch in range(epochs)]
    store.write_run(
        key_for(attack, defense, seed, epochs),
        RunRecord.of({
            "spec": spec_of(attack, defense, seed, epochs),
            "provenance": {
                "bench": "0.1.0", "commit": "0123abc", "python": "3.11.9", "torch": "2.14.1", "machine": "x86_64",
                "threads": 2, "device": "cpu", "started": "2026-01-02T03:00:00+00:00",
                "finished": "2026-01-02T03:04:05+00:00",
            },
            "timing": {"train_seconds": 241.5, "pairs_per_second": 1060.2, "stages": {"load": 2.5, "train": 241.5}},
            "curves": [
                {"epoch": e, "loss": value, "lr": 0.0015, "seconds": 30.1, **observed_of(defense, e, epochs)}
                for e, value in enumerate(loss)
            ],
            "examples": None if epochs == OLD else examples_of(attack, defense),
            "poison": None if attack == "none" else poison,
            "data": {"train_pairs": 16000, "facts": {"image_size": 32}},
        }),
    )  # fmt: skip


def with_provenance(record: RunRecord, **changes: str) -> RunRecord:
    return record.model_copy(update={"provenance": record.provenance.model_copy(update=changes)})


def examples_of(attack: str, defense: str) -> Record:
    return similar.examples(defense, EVIL if EVIL in (attack, defense) else similar.LABELS[0])


def observed_of(defense: str, epoch: int, epochs: int) -> Record:
    """Similarities after an epoch: none in old records; SafeCLIP splits after its second epoch."""
    if epochs == OLD:
        return {}
    if defense.startswith("safeclip"):
        if epoch:
            return similar.split(degenerate=defense == "safeclip7") | {"safe_share": 0.625 + 0.01 * (epoch - 1)}
        return similar.first_look()
    return {} if epoch else similar.first_look()


def write_evals(store: Store, attack: str, defense: str, seed: int, numbers: tuple[float, ...], epochs: int = 8) -> None:
    asr, zero, colour, shape = numbers
    key = key_for(attack, defense, seed, epochs)
    if attack != "none":
        shares = {("asr", "all"): asr, ("asr_floor", "all"): FLOOR, ("triggered_top1", "all"): zero / 2}
        write_eval(store, key, "asr", shares, better={"asr": "lower", "asr_floor": "neither"}, n=600)
    write_eval(store, key, "zero_shot", {("top1", "object"): zero}, n=2000)
    write_eval(store, key, "linear_probe", {("top1", "colour"): colour, ("top1", "shape"): shape}, n=2000)


def write_eval(
    store: Store, run: str, name: str, values: dict[tuple[str, str], float], *, better: dict[str, str] | None = None,
    n: int = 100, finished: str = "2026-01-02T03:05:00+00:00", key: str | None = None, version: str = "1",
) -> None:  # fmt: skip
    metrics = sorted({metric for metric, _ in values})
    store.write_eval(
        run,
        name,
        key or key_of(name),
        EvalRecord.of(
            {
                "evaluator": {"name": name, "version": version, "params": {}},
                "clean_run_key": None,
                "metrics": [
                    {
                        "name": m,
                        "unit": "fraction",
                        "better": (better or {}).get(m, "higher"),
                        "description": f"what {m} is",
                    }
                    for m in metrics
                ],
                "measurements": [
                    {
                        "metric": m,
                        "task": task,
                        "value": value,
                        "n": n,
                        "ci_low": max(0.0, value - 0.02),
                        "ci_high": min(1.0, value + 0.02),
                    }
                    for (m, task), value in values.items()
                ],
                "finished": finished,
            }
        ),
    )


def make(root: Path) -> Store:
    store = Store.create(root)
    cells = []
    for (attack, defense), rows in NUMBERS.items():
        for seed, *numbers in rows:
            cells.append(cell_of(attack, defense, seed))
            write_training(store, attack, defense, seed)
            write_evals(store, attack, defense, seed, tuple(numbers))
    cells += [cell_of("badnet", "safeclip", 2), cell_of("wanet", "safeclip7", 0)]  # never run
    for seed in (0, 1):  # failed in training
        cells.append(cell_of("badnet", "roclip", seed))
        key = key_for("badnet", "roclip", seed)
        traceback = 'Traceback (most recent call last):\n  File "loop.py", line 3\nRuntimeError: loss is NaN'
        store.write_failure(key, Failure.of({"stage": "train", "error": "RuntimeError: loss is NaN", "traceback": traceback}))
    cells.append(cell_of("wanet", "roclip", 0))  # trained, one evaluator failed, the others were not run
    write_training(store, "wanet", "roclip", 0)
    failure = {"stage": "eval:asr", "error": "ValueError: no probes", "traceback": "Traceback: no probes"}
    store.write_failure(key_for("wanet", "roclip", 0), Failure.of(failure))
    cells.append(cell_of("wanet", EVIL, 0, unsupported="does not warp images"))
    store.write_request(key_of("main"), RequestRecord.of({"cells": cells}))
    longer = [("badnet", "clip", (0.95, 0.81, 0.93, 0.77)), ("badnet", "safeclip", (0.12, 0.79, 0.91, 0.75))]
    for attack, defense, values in longer:  # another recipe, and no request: records alone must show
        write_training(store, attack, defense, 0, epochs=16)
        write_evals(store, attack, defense, 0, values, epochs=16)
    return store


if __name__ == "__main__":
    from bench.reports.write import write_report

    print(*write_report(make(Path(sys.argv[1]))).values(), sep="\n")
