"""Hugging Face's data sets, of small made ones in every layout."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.api.data import DataPlace, DatasetBundle, Findings
from bench.cli.main import main
from bench.data.decoding import decode
from bench.data.huggingface import HuggingFace, HuggingFaceParams
from bench.errors import UserError

datasets = pytest.importorskip("datasets", reason="the extra [hf] is not installed")

KINDS = ("goldfish", "banana", "lemon")
ROWS = 24
LAYOUTS = ("save_to_disk", "splits on disk", "parquet", "arrow", "imagefolder", "json")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def caption(row: int) -> str:
    return f"a {KINDS[row % 3]} — number {row}"


def picture(row: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (30 + row, 28), (10 * row, 90, 10)).save(content, "JPEG", quality=95)
    return content.getvalue()


def columns(rows: int = ROWS) -> dict[str, list[Any]]:
    return {
        "picture": [{"bytes": picture(row), "path": None} for row in range(rows)],
        "words": [f"  {caption(row)}\n" for row in range(rows)],
        "number": list(range(rows)),
    }


def table(made: dict[str, list[Any]]) -> Any:
    return datasets.Dataset.from_dict(made).cast_column("picture", datasets.Image())


def make(folder: Path, layout: str) -> Path:
    folder.mkdir(parents=True)
    if layout in ("imagefolder", "json"):
        images = folder / "train" if layout == "imagefolder" else folder.parent / "beside"
        images.mkdir()
        lines = []
        for row in range(ROWS):
            (images / f"{row:03d}.jpg").write_bytes(picture(row))
            place = {"file_name": f"{row:03d}.jpg"} if layout == "imagefolder" else {"image": f"../beside/{row:03d}.jpg"}
            lines.append(json.dumps({**place, "words": caption(row)}))
        target = images / "metadata.jsonl" if layout == "imagefolder" else folder / "train.jsonl"
        target.write_text("\n".join(lines))
        return folder
    made = table(columns())
    if layout == "save_to_disk":
        made.save_to_disk(folder)
    elif layout == "splits on disk":
        datasets.DatasetDict({"train": made, "other": made.select(range(3))}).save_to_disk(folder)
    elif layout == "parquet":
        made.to_parquet(folder / "train-00000.parquet")
    else:
        made.save_to_disk(folder / "made")
        shutil.move(next((folder / "made").glob("*.arrow")), folder / "train.arrow")
        shutil.rmtree(folder / "made")
    return folder


def opened(root: Path, findings: Findings | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    return HuggingFace().open(HuggingFaceParams(**params), size, DataPlace(root, None, findings))


def complaint(root: Path, *wanted: str, **params: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in wanted), str(caught.value)


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_images_and_members_belong_together(tmp_path: Path, layout: str) -> None:
    bundle = opened(make(tmp_path / "made", layout), holdout_share=0.25)
    assert [len(part) for part in parts(bundle)] == [18, 3, 3]
    seen = []
    for part in parts(bundle):
        pixels = part.images.load(np.arange(len(part)))
        for place, uid in enumerate(part.uids):
            row = int(Path(uid).name)
            seen.append(row)
            assert part.captions[place] == caption(row)
            assert [bundle.vocabulary.names[member] for member in part.members[place]] == [KINDS[row % 3]]
            assert np.array_equal(pixels[place].numpy(), decode("x", 16, picture(row)))
    assert sorted(seen) == list(range(ROWS))


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = opened(make(tmp_path / "a", "save_to_disk")).fingerprint
    assert opened(make(tmp_path / "b" / "c", "parquet")).fingerprint == first
    assert opened(tmp_path / "a", size=32).fingerprint != first
    for column, row, value in (("words", 5, "another"), ("picture", 7, {"bytes": picture(9), "path": None})):
        made = columns()
        made[column][row] = value
        table(made).save_to_disk(tmp_path / column)
        assert opened(tmp_path / column).fingerprint != first


def test_columns_are_named_or_found(tmp_path: Path) -> None:
    made = columns()
    table({**made, "more": ["text"] * ROWS}).save_to_disk(tmp_path / "two")
    complaint(tmp_path / "two", "2 that may be it (words, more)", "data.caption_column")
    assert opened(tmp_path / "two", caption_column="more").train.captions[0] == "text"
    complaint(tmp_path / "two", "no such column 'wrods'", "words", caption_column="wrods")
    table({**made, "caption": ["named"] * ROWS}).save_to_disk(tmp_path / "caption")
    assert opened(tmp_path / "caption").train.captions[0] == "named"
    lists = [[f"{row} first", "second"] for row in range(ROWS)]
    table({"picture": made["picture"], "words": lists}).save_to_disk(tmp_path / "lists")
    bundle = opened(tmp_path / "lists")
    assert bundle.train.captions[0] == f"{int(Path(bundle.train.uids[0]).name)} first"
    datasets.Dataset.from_dict({"words": made["words"]}).save_to_disk(tmp_path / "none")
    complaint(tmp_path / "none", "none that may be it", "data.image_column")


def test_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = columns()
    made["words"][3], made["words"][4] = " ", None
    made["picture"][5] = None
    made["picture"][6]["bytes"] = b"no image"
    table(made).save_to_disk(tmp_path / "bad")
    complaint(tmp_path / "bad", "1 rows without image", "row 5", "on_error=skip")
    bundle = opened(tmp_path / "bad", on_error="skip", holdout_share=0.25)
    assert bundle.facts == {"skipped_missing": 1, "skipped_unreadable": 1, "skipped_captionless": 2}
    assert sum(map(len, parts(bundle))) == ROWS - 4
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"hf:{tmp_path / 'bad'}", "--decode"])
    assert done.value.code == 1
    told = capsys.readouterr().out
    assert "row 6" in told
    assert "captionless: 2" in told
    assert "unreadable: 1" in told


def test_what_cannot_be_opened_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint(tmp_path / "nowhere", "no such folder")
    complaint(Path("somebody/something"), "somebody/something", "connection")
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit('this code was run')")
    complaint(tmp_path / "script", "script", "check the folder")
    complaint(make(tmp_path / "splits", "splits on disk"), "no split 'val'", "train", split="val")
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"hf:{tmp_path / 'splits'}", "--data-root", str(tmp_path)])
    assert done.value.code == 2
    assert "once" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "datasets", None)
    complaint(tmp_path / "splits", "clip-poison-bench[hf]")
