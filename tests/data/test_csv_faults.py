"""Faults of a CSV of pairs: each is one sentence that names file, line and remedy, or is skipped on request."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bench.cli.main import main
from bench.data.csv_pairs import CsvPairsParams
from bench.errors import UserError

from .csv_maker import HEADER, make, opened, parts, table, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "pairs")


def check_error(root: Path | None, *words: str, **params: Any) -> None:
    """Opening fails with one line that contains all the words."""
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_equal_rows_are_duplicates(root: Path) -> None:
    shutil.copy(root / "images" / "3.png", root / "images" / "again.png")
    rows = [*table(), ["./images/7.png", table()[8][1]], ["images/again.png", table()[4][1]]]
    write(root / "train.csv", rows)
    check_error(root, "2 rows that repeat the image and caption of an earlier row", "line 22", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_duplicate"] == 2
    assert sorted(uid for part in parts(bundle) for uid in part.uids) == sorted(path for path, _ in table()[1:])


def test_the_remedy_depends_on_the_cause(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, words in (
        (lambda path: path.replace("/", "\\"), ("use / instead of \\",)),
        (lambda path: f"https://example.org/{path}", ("download the images first",)),
        (lambda path: f"pairs/{path}", ("relative to", str(root))),
        (lambda path: path + "x" * 300, ("restore them",)),
    ):
        monkeypatch.chdir(root.parent)
        write(root / "train.csv", [HEADER, *([change(path), text] for path, text in table()[1:])])
        check_error(root, "lists 20 images that do not exist", *words)
    (root / "train.csv").write_text("filepath:title\nimages/1.png:a lemon")
    check_error(root, "no separator was found", "set data.separator")
    (root / "train.csv").write_text("filepath\ttitle\nimages/1.png\ta\tb")
    check_error(root, "has 3 fields", "remove tabs from captions")


def test_images_that_are_not_regular_files_are_missing(root: Path) -> None:
    for row in (3, 4, 5):
        (root / "images" / f"{row}.png").unlink()
    (root / "images" / "3.png").mkdir()
    (root / "images" / "4.png").symlink_to("4.png")
    os.mkfifo(root / "images" / "5.png")
    assert opened(root, on_error="skip").facts["skipped_missing"] == 3


def test_verify_reports_its_findings_if_no_image_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train.csv").write_text("\n".join(["filepath,title", *(f"{path},a,b" for path, _ in table()[1:]), "x.png,gone"]))
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"csv:{root}"])
    assert done.value.code == 2
    printed = capsys.readouterr()
    assert "malformed: 20\n" in printed.out
    assert "line 2 has 3 fields" in printed.out
    assert "missing: 1\n" in printed.out
    assert "not checked" not in printed.out
    assert "0 usable images" in printed.err


def test_missing_files(root: Path, tmp_path: Path) -> None:
    check_error(None, "--data-root")
    check_error(tmp_path / "nowhere", str(tmp_path / "nowhere"), "--data-root")
    check_error(root, str(root / "other.csv"), file="other.csv")


def test_missing_columns(root: Path) -> None:
    check_error(root, "train.csv", "'titel'", "data.caption_column", "did you mean 'title'?", caption_column="titel")
    check_error(root, "data.image_column", "filepath", "title", image_column="zzzz")
    (root / "train.csv").write_bytes(b"")
    check_error(root, "train.csv", "no column 'filepath'")


def test_rows_are_named_by_their_line(root: Path) -> None:
    good = table()
    good[2][1] = "two\nlines"
    for row, words in (
        (["images/1.png"], ("has 1 fields", "header has 2")),
        (["images/1.png", "a", "b"], ("has 3 fields",)),
        (["images/1.png", "  "], ("empty caption",)),
        ([" ", "a lemon"], ("has no image path",)),
    ):
        write(root / "train.csv", [*good[:5], row, *good[5:]])
        check_error(root, "train.csv, line 7 ", *words, "--set data.on_error=skip")
        skipped = opened(root, on_error="skip")
        assert sum(int(count) for name, count in skipped.facts.items() if name.startswith("skipped")) == 1
        assert sum(len(part) for part in parts(skipped)) == 20


def test_a_path_with_a_null_byte_is_malformed(root: Path) -> None:
    rows = table()
    rows[3][0] = "images/2\0.png"
    write(root / "train.csv", rows)
    with pytest.raises(UserError, match=r"train\.csv, line 4 has no image path: add one"):
        opened(root)
    bundle = opened(root, on_error="skip")
    left = {row[0] for row in table()[1:]} - {"images/2.png"}
    assert sorted(uid for part in parts(bundle) for uid in part.uids) == sorted(left)
    assert bundle.facts["skipped_malformed"] == 1


def test_not_utf8(root: Path) -> None:
    lines = (root / "train.csv").read_bytes().splitlines()
    (root / "train.csv").write_bytes(b"\n".join([*lines[:4], b"images/4.png,caf\xe9", *lines[5:]]))
    check_error(root, "train.csv, line 5 ", "UTF-8")


def test_missing_images(root: Path) -> None:
    for row in (4, 9):
        (root / "images" / f"{row}.png").unlink()
    check_error(root, "lists 2 images", "line 6", str(root / "images/4.png"), "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_missing"] == 2
    assert sum(len(part) for part in parts(bundle)) == 18
    shutil.rmtree(root / "images")
    check_error(root, "0 usable images", on_error="skip")


def test_unreadable_images(root: Path, tmp_path: Path) -> None:
    (root / "images" / "4.png").write_bytes(b"no image")
    (images,) = [part.images for part in parts(opened(root)) if "images/4.png" in part.uids]
    with pytest.raises(UserError, match=r"4\.png.*--set data\.on_error=skip"):
        images.load(np.arange(len(images)))
    for _ in range(2):
        bundle = opened(root, tmp_path / "cache", on_error="skip")
        assert bundle.facts["skipped_unreadable"] == 1
        assert sum(len(part) for part in parts(bundle)) == 19
        for part in parts(bundle):
            part.images.load(np.arange(len(part)))


def test_too_few_images(root: Path) -> None:
    write(root / "train.csv", table(2))
    check_error(root, "lists 2 usable images")
    write(root / "train.csv", table(3))
    assert [len(part) for part in parts(opened(root))] == [1, 1, 1]
    check_error(root, "too few", holdout_share=0.99)
    with pytest.raises(ValidationError):
        CsvPairsParams(holdout_share=1.0)
