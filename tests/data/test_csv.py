"""Pairs of a CSV or TSV: separators, encodings, paths, duplicates and splits."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import duplicates
from bench.data.csv_pairs import CsvPairs
from bench.data.decoding import decode
from bench.data.vocabularies import imagenet
from bench.registry import datasets

from .csv_maker import HEADER, NAMES, make, opened, parts, table, write
from .pixels import leaks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "pairs")


def test_registered() -> None:
    assert datasets["csv"].plugin is CsvPairs
    assert CsvPairs.needs_root


def test_uids_captions_images_and_members_correspond(root: Path) -> None:
    bundle = opened(root, holdout_share=0.4)
    assert [len(part) for part in parts(bundle)] == [12, 4, 4]
    assert bundle.vocabulary == imagenet()
    assert bundle.tasks == ()
    assert bundle.task_reason
    written = dict(table()[1:])
    uids = [uid for part in parts(bundle) for uid in part.uids]
    assert sorted(uids) == sorted(written)
    for part in parts(bundle):
        pixels = part.images.load(np.arange(len(part)))
        for row, uid in enumerate(part.uids):
            assert part.captions[row] == written[uid]
            assert np.array_equal(pixels[row].numpy(), decode(root / uid, 16))
            assert [bundle.vocabulary.names[member] for member in part.members[row]] == [NAMES[int(Path(uid).stem) % 3]]


def test_root_may_be_the_file(root: Path) -> None:
    assert opened(root / "train.csv").fingerprint == opened(root).fingerprint
    (root / "train.csv").rename(root / "other.csv")
    assert len(opened(root, file="other.csv").train) == 18


@pytest.mark.parametrize(
    ("name", "written", "given"),
    [
        ("a.csv", ",", "auto"),
        ("a.tsv", "\t", "auto"),
        ("a.txt", "\t", "auto"),
        ("a.tsv", ",", ","),
        ("a.csv", "\t", "tab"),
    ],
)
def test_separators(root: Path, name: str, written: str, given: str) -> None:
    write(root / name, table(), written)
    assert sorted(opened(root, file=name, separator=given).train.captions) == sorted(opened(root).train.captions)


def test_byte_order_mark_other_columns_quotes_and_line_ends(root: Path) -> None:
    rows = [
        ["number", "caption", "image"],
        *([str(row), f'"{text}"\nso it is', path] for row, (path, text) in enumerate(table()[1:])),
    ]
    write(root / "train.csv", rows, encoding="utf-8-sig")
    bundle = opened(root, image_column="image", caption_column="caption")
    assert len(bundle.train) == 18
    assert all(text.endswith('"\nso it is') for text in bundle.train.captions)
    write(root / "train.csv", table(), encoding="utf-8-sig")
    assert len(opened(root).train) == 18


def test_rows_of_an_image_are_in_one_split(root: Path) -> None:
    again = [[f"./images/{row}.png", f"and a fire truck {row}"] for row in range(20)]
    write(root / "train.csv", table() + again)
    bundle = opened(root, holdout_share=0.5)
    assert [len(part) for part in parts(bundle)] == [20, 10, 10]
    uids = [set(part.uids) for part in parts(bundle)]
    assert sum(map(len, uids)) == len(set.union(*uids)) == 40
    assert "images/3.png#2" in set.union(*uids)
    images = [{uid.removesuffix("#2") for uid in part} for part in uids]
    assert [len(part) for part in images] == [10, 5, 5]
    assert all(len(members) == 2 for part in parts(bundle) for members in part.members)


def test_files_of_the_same_bytes_are_one_image(root: Path) -> None:
    """Copies and links are duplicates; different images of the same size are not."""
    rows = table()
    for row in range(20):
        shutil.copy(root / "images" / f"{row}.png", root / "images" / f"copy of {row}.png")
        (root / "images" / f"link to {row}.png").symlink_to(root / "images" / f"{row}.png")
        for name in ("copy of", "link to"):
            rows.append([f"images/{name} {row}.png", f"{name} a fire truck {row}"])
    write(root / "train.csv", rows)
    bundle = opened(root, holdout_share=0.5)
    assert len({(root / "images" / f"{row}.png").stat().st_size for row in range(20)}) < 20
    assert leaks(bundle) == 0
    assert [len(part) for part in parts(bundle)] == [30, 15, 15]
    assert (bundle.facts["images"], bundle.facts["rows_sharing_an_image"]) == (20, 60)
    assert all(len(members) == 2 for part in parts(bundle) for members in part.members)


def test_duplicates_are_cached_until_a_file_changes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    read_bytes = duplicates.read_bytes
    monkeypatch.setattr(duplicates, "read_bytes", lambda *where: read.append(where) or read_bytes(*where))
    shutil.copy(root / "images" / "3.png", root / "images" / "4.png")
    cache = tmp_path / "cache"
    first = opened(root, cache)
    assert first.facts["images"] == 19
    assert len(read) > 0
    read.clear()
    assert opened(root, cache).facts["images"] == 19
    assert read == []
    content = (root / "images" / "4.png").read_bytes()
    (root / "images" / "4.png").write_bytes(content[:-1] + b"x")
    assert opened(root, cache).facts["images"] == 20
    for file in cache.glob("images-*"):
        file.write_bytes(b"damaged")
    assert opened(root, cache).facts["images"] == 20


def test_column_names_ignore_case_and_spaces(root: Path) -> None:
    lines = ["number | FilePath | Title ", *(f"{row} | {path} | {text}" for row, (path, text) in enumerate(table()[1:]))]
    (root / "other.csv").write_text("\n".join(lines), encoding="utf-16")
    assert list(opened(root, file="other.csv").train.captions) == list(opened(root).train.captions)


def test_absolute_paths_and_parent_folders(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    rows = [[str(root / path) if row % 2 else f"../pairs/{path}", text] for row, (path, text) in enumerate(table()[1:])]
    write(tmp_path / "lists" / "train.csv", [HEADER, *rows])
    bundle = opened(tmp_path / "lists")
    assert len(bundle.train) == 18
    assert bundle.train.images.load(np.arange(18)).shape == (18, 3, 16, 16)


def test_blank_lines_are_nothing(root: Path) -> None:
    text = (root / "train.csv").read_text()
    (root / "train.csv").write_text(text.replace("\n", "\n\n"))
    assert sum(len(part) for part in parts(opened(root))) == 20


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = opened(root).fingerprint
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    assert opened(moved, tmp_path / "cache").fingerprint == opened(moved, separator=",").fingerprint == before
    assert before != opened(moved, size=17).fingerprint != opened(moved, holdout_share=0.2).fingerprint != before
    Image.new("RGB", (90, 90)).save(moved / "images" / "3.png")
    changed = opened(moved).fingerprint
    assert changed != before
    write(moved / "train.csv", [*table()[:-1], ["images/19.png", "a tram"]])
    assert opened(moved).fingerprint not in (before, changed)
