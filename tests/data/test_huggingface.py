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
from bench.data import arrow_texts
from bench.data.decoding import decode
from bench.data.huggingface import HuggingFace, HuggingFaceParams
from bench.errors import UserError

from .pixels import leaks

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
def test_captions_images_and_members_correspond(tmp_path: Path, layout: str) -> None:
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
    complaint(tmp_path / "two", "2 possible columns (words, more)", "data.caption_column")
    assert opened(tmp_path / "two", caption_column="more").train.captions[0] == "text"
    complaint(tmp_path / "two", "no such column 'wrods'", "words", caption_column="wrods")
    table({**made, "caption": ["named"] * ROWS}).save_to_disk(tmp_path / "caption")
    assert opened(tmp_path / "caption").train.captions[0] == "named"
    complaint(tmp_path / "two", "'number'", "does not contain strings but", "int64", caption_column="number")
    complaint(tmp_path / "two", "'number'", "does not contain images", "int64", image_column="number", caption_column="words")
    datasets.Dataset.from_dict({"words": made["words"]}).save_to_disk(tmp_path / "none")
    complaint(tmp_path / "none", "no suitable column", "data.image_column")


@pytest.mark.parametrize("length", [-1, 3])
def test_one_nonempty_caption_of_a_list_is_drawn(tmp_path: Path, length: int) -> None:
    lists = [[None if row % 2 else " ", f"a banana {row}\n", f"a lemon {row}"] for row in range(ROWS)]
    if length < 0:
        lists[5], lists[6], lists[7] = lists[5][::-1], [], ["", None]
    made = datasets.Dataset.from_dict({"picture": columns()["picture"], "words": lists})
    made = made.cast_column("picture", datasets.Image())
    made = made.cast_column("words", datasets.Sequence(datasets.Value("string"), length=length))
    made.save_to_disk(tmp_path / "lists")
    seen = []
    for seed in range(8):
        bundle = opened(tmp_path / "lists", on_error="skip", caption_seed=seed)
        assert bundle.facts["skipped_captionless"] == (2 if length < 0 else 0)
        drawn = {
            int(Path(uid).name): text for part in parts(bundle) for uid, text in zip(part.uids, part.captions, strict=True)
        }
        assert drawn == {row: drawn[row] for row in range(ROWS) if length == 3 or row not in (6, 7)}
        assert all(text in (f"a banana {row}", f"a lemon {row}") for row, text in drawn.items())
        fruit = {bundle.vocabulary.names[member] for part in parts(bundle) for members in part.members for member in members}
        assert fruit == {"banana", "lemon"}
        assert all(len(members) == 2 for part in parts(bundle) for members in part.members)
        seen.append((bundle.fingerprint, *drawn.values()))
    assert len(set(seen)) == len(seen)
    assert 0.25 < np.mean(["banana" in text for _, *texts in seen for text in texts]) < 0.75


def test_rows_of_an_image_are_in_one_split(tmp_path: Path) -> None:
    """Whether their bytes are embedded, or files with names of their own."""
    lines = []
    for row in range(60):
        (tmp_path / f"{row}.jpg").write_bytes(picture(row // 3))
        lines.append({"image": f"../{row - row % 2}.jpg" if row % 3 == 1 else f"../{row}.jpg", "words": caption(row)})
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed" / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = {
        "picture": [{"bytes": picture(row // 3), "path": None} for row in range(60)],
        "words": list(map(caption, range(60))),
    }
    table(made).save_to_disk(tmp_path / "embedded")
    for name in ("listed", "embedded"):
        bundle = opened(tmp_path / name, holdout_share=0.3)
        assert leaks(bundle) == 0
        assert [len(part) for part in parts(bundle)] == [42, 9, 9]
        assert bundle.facts["images"] == 20
        assert bundle.facts["rows_sharing_an_image"] == 60
        assert all(len(members) == 3 for part in parts(bundle) for members in part.members)


def test_equal_rows_are_duplicates(tmp_path: Path) -> None:
    made = columns()
    for column in ("picture", "words"):
        made[column] += made[column][3:5]
    made["number"] += [0, 0]
    table(made).save_to_disk(tmp_path / "twice")
    complaint(tmp_path / "twice", "2 rows that repeat the image and caption of an earlier row", f"row {ROWS}", "on_error=skip")
    bundle = opened(tmp_path / "twice", on_error="skip")
    assert bundle.facts["skipped_duplicate"] == 2
    assert sum(map(len, parts(bundle))) == ROWS


@pytest.mark.parametrize("kind", ["binary", "struct"])
def test_images_in_undeclared_columns(tmp_path: Path, kind: str) -> None:
    """Parquet of other writers has no features: images are binaries, or structs of bytes and path."""
    import pyarrow as pa
    import pyarrow.parquet

    contents = [picture(row) for row in range(ROWS)]
    images = pa.array(contents if kind == "binary" else [{"bytes": each, "path": "x.jpg"} for each in contents])
    (tmp_path / "made").mkdir()
    rows = pa.table({"img": images, "caption": pa.array([caption(row) for row in range(ROWS)])})
    pyarrow.parquet.write_table(rows, tmp_path / "made" / "train.parquet")
    bundle = opened(tmp_path / "made")
    assert len(bundle.train) == ROWS - 2
    row = int(Path(bundle.train.uids[3]).name)
    assert np.array_equal(bundle.train.images.load(np.array([3]))[0].numpy(), decode("x", 16, picture(row)))


def test_captions_that_are_not_utf8() -> None:
    """Arrow's writers do not check it."""
    import pyarrow as pa

    words = pa.array([caption(row).encode() for row in range(4)] + [b" ", b" a lemon \xff\xed\xa0\xbd "])
    strings = pa.Array.from_buffers(pa.string(), len(words), words.buffers())
    for column in (strings, pa.ListArray.from_arrays(pa.array([0, 1, 4, 6], type=pa.int32()), strings)):
        texts, rows = arrow_texts.of_column(pa.chunked_array([column]))
        assert list(texts)[:4] == [caption(row) for row in range(4)]
        assert texts[4].startswith("a lemon \ufffd")
        assert rows.tolist() == ([0, 1, 2, 3, 5] if column is strings else [0, 1, 1, 1, 2])
        json.dumps(list(texts), ensure_ascii=False).encode()


def test_why_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    """The reason, not that there is one."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "train.jsonl").write_text('{"image": "a.jpg", "words": 5}\n{"image": ')
    complaint(tmp_path / "made", "JSON")


def test_nothing_but_empty_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table({"picture": columns()["picture"], "caption": [None] * ROWS}).save_to_disk(tmp_path / "none")
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"hf:{tmp_path / 'none'}"])
    assert done.value.code == 2
    told = capsys.readouterr()
    assert f"captionless: {ROWS}" in told.out
    assert "0 usable images" in told.err


def test_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = columns()
    made["words"][3], made["words"][4] = " ", None
    made["picture"][5] = None
    made["picture"][6]["bytes"] = b"no image"
    table(made).save_to_disk(tmp_path / "bad")
    complaint(tmp_path / "bad", "1 rows without image", "row 5", "on_error=skip")
    bundle = opened(tmp_path / "bad", on_error="skip", holdout_share=0.25)
    assert {fact: count for fact, count in bundle.facts.items() if fact.startswith("skipped")} == {
        "skipped_missing": 1, "skipped_unreadable": 1, "skipped_duplicate": 0, "skipped_captionless": 2,
    }  # fmt: skip
    assert sum(map(len, parts(bundle))) == ROWS - 4
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"hf:{tmp_path / 'bad'}", "--decode"])
    assert done.value.code == 1
    told = capsys.readouterr().out
    assert "row 6" in told
    assert "captionless: 2" in told
    assert "unreadable: 1" in told


def test_errors_of_opening_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint(tmp_path / "nowhere", "neither a folder nor")
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
