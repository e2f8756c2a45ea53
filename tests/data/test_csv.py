import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from bench.api.data import DataPlace, DatasetBundle
from bench.cli.main import main
from bench.data import duplicates
from bench.data.csv_pairs import CsvPairs, CsvPairsParams
from bench.data.decoding import decode
from bench.data.vocabularies import imagenet
from bench.errors import UserError
from bench.registry import datasets

from .pixels import leaks

NAMES = ("goldfish", "banana", "lemon")
HEADER = ["filepath", "title"]


def opened(root: Path | None, cache: Path | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    return CsvPairs().open(CsvPairsParams(**params), size, DataPlace(root, cache))


def write(file: Path, rows: list[list[str]], separator: str = ",", encoding: str = "utf-8") -> None:
    with file.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=separator).writerows(rows)


def table(count: int = 20) -> list[list[str]]:
    return [HEADER, *([f"images/{row}.png", f"a {NAMES[row % 3]}, number {row}"] for row in range(count))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    (folder / "images").mkdir(parents=True)
    for row in range(20):
        Image.new("RGB", (20, 24), (row, 5, 200)).save(folder / "images" / f"{row}.png")
    write(folder / "train.csv", table())
    return folder


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


def test_registered() -> None:
    assert datasets["csv"].plugin is CsvPairs
    assert CsvPairs.needs_root


def test_rows_images_and_members_belong_together(root: Path) -> None:
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


def test_several_rows_of_an_image_stay_together(root: Path) -> None:
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
    """Copies of other names, and links; not images of the same length."""
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


def test_which_files_are_the_same_is_kept_until_one_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    whole = (root / "images" / "4.png").read_bytes()
    (root / "images" / "4.png").write_bytes(whole[:-1] + b"x")
    assert opened(root, cache).facts["images"] == 20
    for note in cache.glob("images-*"):
        note.write_bytes(b"damaged")
    assert opened(root, cache).facts["images"] == 20


def test_equal_rows_are_duplicates(root: Path) -> None:
    shutil.copy(root / "images" / "3.png", root / "images" / "again.png")
    rows = [*table(), ["./images/7.png", table()[8][1]], ["images/again.png", table()[4][1]]]
    write(root / "train.csv", rows)
    complaint(root, "2 rows whose image and caption a row before has", "line 22", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_duplicate"] == 2
    assert sorted(uid for part in parts(bundle) for uid in part.uids) == sorted(path for path, _ in table()[1:])


def test_columns_of_another_case_and_separator(root: Path) -> None:
    lines = ["number | FilePath | Title ", *(f"{row} | {path} | {text}" for row, (path, text) in enumerate(table()[1:]))]
    (root / "other.csv").write_text("\n".join(lines), encoding="utf-16")
    assert list(opened(root, file="other.csv").train.captions) == list(opened(root).train.captions)


def test_what_helps_depends_on_the_cause(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, words in (
        (lambda path: path.replace("/", "\\"), ("write / for \\",)),
        (lambda path: f"https://example.org/{path}", ("download the images first",)),
        (lambda path: f"pairs/{path}", ("relative to", str(root))),
        (lambda path: path + "x" * 300, ("restore them",)),
    ):
        monkeypatch.chdir(root.parent)
        write(root / "train.csv", [HEADER, *([change(path), text] for path, text in table()[1:])])
        complaint(root, "lists 20 images that do not exist", *words)
    (root / "train.csv").write_text("filepath:title\nimages/1.png:a lemon")
    complaint(root, "no separator was found", "data.separator=")
    (root / "train.csv").write_text("filepath\ttitle\nimages/1.png\ta\tb")
    complaint(root, "has 3 fields", "write no tab into a caption")


def test_images_that_are_folders_loops_or_pipes_are_missing(root: Path) -> None:
    for row in (3, 4, 5):
        (root / "images" / f"{row}.png").unlink()
    (root / "images" / "3.png").mkdir()
    (root / "images" / "4.png").symlink_to("4.png")
    os.mkfifo(root / "images" / "5.png")
    assert opened(root, on_error="skip").facts["skipped_missing"] == 3


def test_verify_keeps_what_it_found_when_nothing_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "train.csv").write_text("\n".join(["filepath,title", *(f"{path},a,b" for path, _ in table()[1:]), "x.png,gone"]))
    with pytest.raises(SystemExit) as done:
        main(["data", "verify", f"csv:{root}"])
    assert done.value.code == 2
    told = capsys.readouterr()
    assert "malformed: 20\n" in told.out
    assert "line 2 has 3 fields" in told.out
    assert "missing: 1\n" in told.out
    assert "not looked for" not in told.out
    assert "0 usable images" in told.err


def test_absolute_paths_and_folders_above(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    rows = [[str(root / path) if row % 2 else f"../pairs/{path}", text] for row, (path, text) in enumerate(table()[1:])]
    write(tmp_path / "lists" / "train.csv", [HEADER, *rows])
    bundle = opened(tmp_path / "lists")
    assert len(bundle.train) == 18
    assert bundle.train.images.load(np.arange(18)).shape == (18, 3, 16, 16)


def complaint(root: Path | None, *words: str, **params: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_missing_places(root: Path, tmp_path: Path) -> None:
    complaint(None, "--data-root")
    complaint(tmp_path / "nowhere", str(tmp_path / "nowhere"), "--data-root")
    complaint(root, str(root / "other.csv"), file="other.csv")


def test_missing_columns(root: Path) -> None:
    complaint(root, "train.csv", "'titel'", "data.caption_column", "did you mean 'title'?", caption_column="titel")
    complaint(root, "data.image_column", "filepath", "title", image_column="zzzz")
    (root / "train.csv").write_bytes(b"")
    complaint(root, "train.csv", "no column 'filepath'")


def test_rows_are_named_by_their_line(root: Path) -> None:
    good = table()
    good[2][1] = "two\nlines"
    for row, words in (
        (["images/1.png"], ("has 1 fields", "header has 2")),
        (["images/1.png", "a", "b"], ("has 3 fields",)),
        (["images/1.png", "  "], ("empty caption",)),
        ([" ", "a lemon"], ("names no image",)),
    ):
        write(root / "train.csv", [*good[:5], row, *good[5:]])
        complaint(root, "train.csv, line 7 ", *words, "--set data.on_error=skip")
        skipped = opened(root, on_error="skip")
        assert sum(int(count) for name, count in skipped.facts.items() if name.startswith("skipped")) == 1
        assert sum(len(part) for part in parts(skipped)) == 20


def test_a_path_with_a_zero_byte_names_no_image(root: Path) -> None:
    rows = table()
    rows[3][0] = "images/2\0.png"
    write(root / "train.csv", rows)
    with pytest.raises(UserError, match=r"train\.csv, line 4 names no image: give its path"):
        opened(root)
    bundle = opened(root, on_error="skip")
    left = {row[0] for row in table()[1:]} - {"images/2.png"}
    assert sorted(uid for part in parts(bundle) for uid in part.uids) == sorted(left)
    assert bundle.facts["skipped_malformed"] == 1


def test_blank_lines_are_nothing(root: Path) -> None:
    text = (root / "train.csv").read_text()
    (root / "train.csv").write_text(text.replace("\n", "\n\n"))
    assert sum(len(part) for part in parts(opened(root))) == 20


def test_not_utf8(root: Path) -> None:
    lines = (root / "train.csv").read_bytes().splitlines()
    (root / "train.csv").write_bytes(b"\n".join([*lines[:4], b"images/4.png,caf\xe9", *lines[5:]]))
    complaint(root, "train.csv, line 5 ", "UTF-8")


def test_missing_images(root: Path) -> None:
    for row in (4, 9):
        (root / "images" / f"{row}.png").unlink()
    complaint(root, "lists 2 images", "line 6", str(root / "images/4.png"), "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_missing"] == 2
    assert sum(len(part) for part in parts(bundle)) == 18
    shutil.rmtree(root / "images")
    complaint(root, "0 usable images", on_error="skip")


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
    complaint(root, "lists 2 usable images")
    write(root / "train.csv", table(3))
    assert [len(part) for part in parts(opened(root))] == [1, 1, 1]
    complaint(root, "too few", holdout_share=0.99)
    with pytest.raises(ValidationError):
        CsvPairsParams(holdout_share=1.0)


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
