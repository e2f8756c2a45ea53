from __future__ import annotations

from pathlib import Path

import pytest

from bench.matrix.store import Store

from .records_maker import make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make(tmp_path / "results")
