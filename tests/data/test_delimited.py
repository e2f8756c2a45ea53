"""CSV and TSV files of many programs: every row is read, or counted and named."""

import csv
import io
from pathlib import Path

import pytest

from bench.data import delimited
from bench.errors import UserError

WANTED = ("filepath", "title")
Rows = list[tuple[int, list[str] | None]]


def read(
    file: Path, text: str | bytes, separator: str = "auto", encoding: str = "auto", wanted: tuple[str, ...] = WANTED
) -> Rows:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    header, rows = delimited.read(file, separator, encoding, wanted)
    return [(0, list(header.columns)), *rows]


def cells(rows: Rows) -> list[list[str] | None]:
    return [found for _, found in rows]


def test_a_quote_in_a_tsv_is_a_character(tmp_path: Path) -> None:
    lines = [
        'a.jpg\t"big teapot',
        'b.jpg\ta 5" board',
        'c.jpg\t"',
        'd.jpg\t""',
        'e.jpg\t"he said ""no"""',
        'f.jpg\t"a" and "b"',
    ]
    found = cells(read(tmp_path / "a.csv", "\n".join(["filepath\ttitle", *lines])))
    texts = ['"big teapot', 'a 5" board', '"', "", 'he said "no"', '"a" and "b"']
    assert found[1:] == [[f"{name}.jpg", text] for name, text in zip("abcdef", texts, strict=True)]


@pytest.mark.parametrize("last", [False, True], ids=["image first", "image last"])
@pytest.mark.parametrize("shut", ["", 'a small board, 5"', 'say "no'])
@pytest.mark.parametrize("distance", [1, 2, 7])
def test_a_stray_quote_in_a_csv_loses_only_its_own_row(tmp_path: Path, last: bool, shut: str, distance: int) -> None:
    """A quote is opened in row 5 and closed in a later row, or never."""
    texts = [f"number {row}" for row in range(20)]
    texts[5], texts[5 + distance] = '"big teapot', shut or "plain"
    rows = [[text, f"{row}.jpg"] if last else [f"{row}.jpg", text] for row, text in enumerate(texts)]
    head = ["title", "filepath"] if last else ["filepath", "title"]
    found = read(tmp_path / "a.csv", "\n".join(",".join(row) for row in [head, *rows]))
    assert len(found) == 21
    assert [line for line, fields in found if fields is None] == [7]
    assert all(
        fields in (row, None, row[0].split(",") + row[1:], row[:1] + row[1].split(","))
        for (_, fields), row in zip(found[1:], rows, strict=True)
    )


def test_quoted_fields_round_trip(tmp_path: Path) -> None:
    texts = [
        "two\nlines",
        'a "quote", and a comma',
        "\n\n",
        'ends in "',
        '"',
        "\r\n\r\n",
        "a\n5.jpg",
        'x\n"y"\nz, w\n',
        "plain",
    ]
    for head in (["filepath", "title"], ["title", "filepath"], ["title", "filepath", "more"]):
        for mark in ",;|":
            values = [{"filepath": f"{row}.jpg", "title": text, "more": "1"} for row, text in enumerate(texts)]
            out = io.StringIO()
            writer = csv.DictWriter(out, head, delimiter=mark, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(values)
            found = read(tmp_path / "a.csv", out.getvalue())
            assert cells(found) == [head, *([value[name] for name in head] for value in values)]
            lines = out.getvalue().split("\n")
            assert all(f"{row}.jpg" in "".join(lines[line - 1 : line + 4]) for row, (line, _) in enumerate(found[1:]))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_separators_line_ends_and_encodings_are_recognised(tmp_path: Path, separator: str, encoding: str, ending: str) -> None:
    rows = [["number", " FilePath ", "Title"], ["1", "a.jpg", "café 😀"], ["2", "b.jpg", "\u2028 teapot"]]
    text = ending.join(["", *(separator.join(row) for row in rows)])
    found = read(tmp_path / "a.csv", text.encode(encoding))
    assert cells(found) == [["number", "FilePath", "Title"], *rows[1:]]
    assert [line for line, _ in found[1:]] == [3, 4]
    assert [delimited.find(found[0][1] or [], name) for name in WANTED] == [1, 2]


def test_the_separator_is_the_one_that_the_columns_need(tmp_path: Path) -> None:
    assert cells(read(tmp_path / "a.csv", "filepath;title, in English;title\na;b;c"))[1] == ["a", "b", "c"]
    assert cells(read(tmp_path / "a.csv", "sep=;\nfilepath;title\na;b")) == [["filepath", "title"], ["a", "b"]]
    assert cells(read(tmp_path / "a.csv", "filepath:title\na:b", ":"))[1] == ["a", "b"]
    assert cells(read(tmp_path / "a.csv", '"filepath"\t"title"\n"a"\t"b"')) == [["filepath", "title"], ["a", "b"]]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    assert delimited.find(["Title", "title"], "title") == 1
    with pytest.raises(LookupError, match="2 columns 'title'"):
        delimited.find(["Title", "TITLE"], "title")
    with pytest.raises(LookupError, match="did you mean 'title'"):
        delimited.find(["filepath", "title"], "titel")


@pytest.mark.parametrize("line", [2, 5000])
def test_other_encodings_are_named_and_can_be_given(tmp_path: Path, line: int) -> None:
    text = "\n".join(["filepath\ttitle", *(f"{row}.jpg\tcaf{'é' if row == line else 'e'}" for row in range(2, 6000))])
    with pytest.raises(UserError, match=rf"a\.csv, line {line} is not UTF-8: .*data\.encoding="):
        read(tmp_path / "a.csv", text.encode("latin-1"))
    assert (line, [f"{line}.jpg", "café"]) in read(tmp_path / "a.csv", text.encode("latin-1"), encoding="latin-1")
    with pytest.raises(UserError, match="unknown encoding"):
        read(tmp_path / "a.csv", text, encoding="nonsense")
    with pytest.raises(UserError, match="is not UTF-16"):
        read(tmp_path / "a.csv", "filepath,title\na,b".encode("utf-16")[:-1] + b"\xd8")


def test_many_stray_quotes_take_linear_time(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "\n".join(["filepath,title", *(f'{row}.jpg,"stray {row}' for row in range(20_000))]))
    assert len(found) == 20_001
    assert all(fields is None for _, fields in found[1:])
