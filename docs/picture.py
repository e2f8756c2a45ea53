"""Draws docs/reference.svg from the records in results/reference: `python docs/picture.py`."""

from __future__ import annotations

from pathlib import Path

from bench.matrix.store import Store
from bench.reports.plots import figure_files
from bench.reports.records import load_runs
from bench.reports.sections import sections_of

DOCS = Path(__file__).parent
PICTURE = DOCS / "reference.svg"
RESULTS = DOCS.parent / "results" / "reference"


def drawn() -> bytes:
    (section,) = sections_of(load_runs(Store.open(RESULTS)))
    return figure_files([section], "svg")[f"outcomes-{section.id}.svg"]


if __name__ == "__main__":
    PICTURE.write_bytes(drawn())
