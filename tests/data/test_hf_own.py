"""Labels, published splits and several captions of data sets of Hugging Face; parquet of img2dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.classes import CATEGORIES

from .test_huggingface import KINDS, ROWS, caption, columns, complaint, opened, parts, picture, table

datasets = pytest.importorskip("datasets", reason="the extra [hf] is not installed")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def row_of(uid: str) -> int:
    return int(Path(uid).name)


@pytest.mark.parametrize("kind", ["class label", "text", "number"])
def test_a_label_column_of_any_kind(tmp_path: Path, kind: str) -> None:
    labels: list[Any] = [row % 3 if row != 4 else None for row in range(ROWS)]
    if kind == "text":
        labels = [KINDS[label] if label is not None else None for label in labels]
    made = table({**columns(), "label": labels})
    if kind == "class label":
        made = made.cast_column("label", datasets.ClassLabel(names=list(KINDS)))
    made.save_to_disk(tmp_path / "made")
    chosen = CATEGORIES if kind != "number" else KINDS
    bundle = opened(tmp_path / "made", label_column="label", caption_column="words", classes=chosen, holdout_share=0.5)
    assert set(bundle.vocabulary.names) == set(KINDS)
    for part in parts(bundle):
        for uid, members in zip(part.uids, part.members, strict=True):
            assert [bundle.vocabulary.names[each] for each in members] == [KINDS[row_of(uid) % 3]]
    (task,) = bundle.tasks
    assert len(task.test_labels) == sum(row_of(uid) != 4 for uid in bundle.test.uids)
    complaint(tmp_path / "made", "no such column 'lable'", "data.label_column", label_column="lable", caption_column="words")


def test_published_splits(tmp_path: Path) -> None:
    made = table(columns())
    named = {"train": made.select(range(14)), "validation": made.select(range(14, 20)), "test": made.select(range(20, 24))}
    datasets.DatasetDict(named).save_to_disk(tmp_path / "splits")
    bundle = opened(tmp_path / "splits", val_split="validation", test_split="test")
    assert [list(part.uids) for part in parts(bundle)] == [
        [f"hf/{split}/{row:09d}" for row in range(count)] for split, count in (("train", 14), ("validation", 6), ("test", 4))
    ]
    assert bundle.test.captions[1] == caption(21)
    halves = opened(tmp_path / "splits", test_split="test")
    assert [len(part) for part in parts(halves)] == [14, 2, 2]
    column = [("train", "val", "test")[row // 10] for row in range(ROWS)]
    table({**columns(), "fold": column}).save_to_disk(tmp_path / "column")
    given = opened(tmp_path / "column", split_column="fold", caption_column="words")
    assert [[row_of(uid) // 10 for uid in part.uids] for part in parts(given)] == [[0] * 10, [1] * 10, [2] * 4]
    complaint(tmp_path / "column", "a goldfish", "none of train, val and test", split_column="words", caption_column="words")


def test_several_caption_columns(tmp_path: Path) -> None:
    made = {**columns(), "more": ["" if row % 3 else f"more {row}" for row in range(ROWS)]}
    table(made).save_to_disk(tmp_path / "made")
    seen = set()
    for seed in range(8):
        bundle = opened(tmp_path / "made", caption_column=("words", "more"), caption_seed=seed)
        for part in parts(bundle):
            for uid, text in zip(part.uids, part.captions, strict=True):
                row = row_of(uid)
                assert text in ((caption(row),) if row % 3 else (caption(row), f"more {row}"))
                seen.add(text)
    assert len(seen) == ROWS + ROWS // 3


def test_parquet_of_img2dataset(tmp_path: Path) -> None:
    """As its writer lays it out: the image in the column jpg, null where it could not be had."""
    import pyarrow as pa
    import pyarrow.parquet

    lost = (2, 7)
    rows = {
        "url": [f"http://example.org/{row}.jpg" for row in range(ROWS)],
        "caption": [caption(row) for row in range(ROWS)],
        "key": [f"{row:09d}" for row in range(ROWS)],
        "status": ["failed_to_download" if row in lost else "success" for row in range(ROWS)],
        "error_message": ["HTTP Error 404: Not Found" if row in lost else None for row in range(ROWS)],
        "jpg": [None if row in lost else picture(row) for row in range(ROWS)],
    }
    (tmp_path / "made").mkdir()
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "made" / "00000.parquet")
    bundle = opened(tmp_path / "made")
    assert bundle.facts["not_downloaded"] == 2
    assert sorted(row_of(uid) for part in parts(bundle) for uid in part.uids) == sorted({*range(ROWS)} - {*lost})
    assert bundle.train.images.load(np.arange(len(bundle.train))).shape[0] == len(bundle.train)
