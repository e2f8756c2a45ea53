from pathlib import Path

import pytest

from .coco_maker import make_coco


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small MS-COCO folder."""
    return make_coco(tmp_path / "coco")
