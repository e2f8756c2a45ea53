"""Table 15: what filters cost, from recorded times."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import SMALL, Bench

FILTERS = {
    "DeepKNN": "deepknn",
    "Spectral Signatures": "spectral_signatures",
    "Activation Clustering": "activation_clustering",
}


def test_filters_cost_two_trainings_and_the_filtering(bench: Bench, tmp_path: Path) -> None:
    done = bench("run", "--suite", "table15", "--data", "scenes", *SMALL, "--evaluator", "zero_shot", "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    records: dict[str, dict[str, Any]] = {}
    for path in tmp_path.glob("runs/*/run.json"):
        record = json.loads(path.read_text())
        records[record["spec"]["defense"]["name"]] = record
    lines = {line["row"]: line for line in csv.DictReader((tmp_path / "report" / "table15.csv").open())}
    once = sum(records["clip"]["timing"]["stages"].values())
    for row, name in FILTERS.items():
        stages = records[name]["timing"]["stages"]
        assert stages["selection"] > 0
        assert float(lines[row]["measured"]) == pytest.approx((sum(stages.values()) + once) / once - 1, rel=1e-6)
        assert records[name]["curves"][0]["safe_share"] <= 1
        assert "safe_poisons" in records[name]["curves"][0]
    assert float(lines["DeepKNN"]["published"]) == pytest.approx(8.6667)
