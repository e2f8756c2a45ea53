"""Read CSV and TSV files leniently: separators, encodings and quoting of many programs."""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from PIL import Image

from bench.errors import UserError, did_you_mean

SEPARATORS = {"tab": "\t", ",": ",", ";": ";", "|": "|"}
_SAMPLE = 1 << 16
_MAX_LINES = 1000
_EXCEL_SEPARATOR = re.compile(r"sep=(.)\r?\n?$")
_FLICKR_LINE = re.compile(r"([^\t]+\.\w+)#\d+\t")
"""A line of Flickr30k's list, IMAGE#NUMBER tab CAPTION, which has no header."""


@dataclass(frozen=True)
class Header:
    """separator: a name from SEPARATORS, or a character; columns: their names in the file."""

    separator: str
    columns: Sequence[str]


Record = tuple[int, list[str] | None]
"""The number of the line where a row starts, and its fields; None if its quotes are unbalanced."""


def read(file: Path, separator: str, encoding: str, wanted: Sequence[str]) -> tuple[Header, Iterator[Record]]:
    """Read the header of a file and iterate over its rows that are not blank.

    In a TSV every line is a row: quotes are ordinary characters, except that a field quoted as in CSV is unquoted. With other
    separators a quoted field may span lines, except over a line that looks like a row of its own, with an image name in the
    first column of `wanted`; so a quote that is never closed spoils only its own line. A list of Flickr30k, which has no
    header, gets the columns `wanted[:2]`.

    Parameters
    ----------
    file : Path
        The file.
    separator : str
        A name from SEPARATORS, a character, or "auto": the separator with which most columns of `wanted` are found.
    encoding : str
        A codec, or "auto": UTF-8, or UTF-16 if the file starts like it.
    wanted : sequence of str
        The columns that are needed, that of the images first.

    Returns
    -------
    header : Header
    rows : iterator of Record

    Raises
    ------
    UserError
        If the file cannot be read or decoded; also during iteration.
    """
    lines = _lines(file, encoding)
    number, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if separator in ("auto", "tab") and _FLICKR_LINE.match(first):
        images = (_FLICKR_LINE.sub(r"\1\t", line) for line in chain([first], lines))
        return Header("tab", wanted[:2]), _of_tsv(images, number - 1)
    if declared := _EXCEL_SEPARATOR.match(first):
        separator = declared[1] if separator == "auto" else separator
        number, first = number + 1, next(lines, "")
    header = _header(first, separator, wanted)
    mark = SEPARATORS.get(header.separator, header.separator)
    if mark == "\t":
        return header, _of_tsv(lines, number)
    try:
        place = find(header.columns, wanted[0])
    except LookupError:
        place = len(header.columns)
    return header, _of_csv(lines, number, mark, _row_like(mark, len(header.columns), place))


def find(columns: Sequence[str], name: str) -> int:
    """The index of a column, ignoring case and surrounding spaces. Raises LookupError with a hint."""
    exact = [place for place, column in enumerate(columns) if column == name]
    alike = [place for place, column in enumerate(columns) if column.strip().casefold() == name.strip().casefold()]
    found = exact or alike
    if len(found) != 1:
        raise LookupError(f"has {len(found)} columns '{name}'" if found else did_you_mean(name, columns))
    return found[0]


def _header(line: str, separator: str, wanted: Sequence[str]) -> Header:
    if separator != "auto":
        return Header(separator, _cells_of_header(line, SEPARATORS.get(separator, separator)))
    tried = [Header(name, _cells_of_header(line, mark)) for name, mark in SEPARATORS.items()]

    def fit(header: Header) -> tuple[int, int]:
        names = {column.casefold() for column in header.columns}
        return sum(name.strip().casefold() in names for name in wanted), len(header.columns)

    return max(tried, key=fit)


def _cells_of_header(line: str, mark: str) -> list[str]:
    cells = _parsed(line, mark)
    return [cell.strip() for cell in (line.split(mark) if cells is None else cells)]


def _lines(file: Path, encoding: str) -> Iterator[str]:
    try:
        with file.open("rb") as stream:
            sample = stream.read(_SAMPLE)
        name = _encoding(file, sample) if encoding == "auto" else encoding
        codecs.lookup(name)
        ends = "\n" if "\n" in sample.decode(name, errors="replace") else "\r"
        with file.open(encoding=name, newline=ends) as text:
            for line in text:
                yield line if ends == "\n" else line.replace("\r", "\n")
    except UnicodeError as error:
        hint = "save the file in that encoding, or set another, for example --set data.encoding=cp1252"
        raise UserError(f"{file}{_bad_line(file, name)} is not {name.removesuffix('-sig').upper()}: {hint}") from error
    except LookupError as error:
        raise UserError(f"--set data.encoding={encoding}: unknown encoding; try utf-8, utf-16 or cp1252") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check its permissions") from error


def _encoding(file: Path, sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(sample) > 1 and b"\0" in sample[:2]:
        return "utf-16-le" if sample[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _bad_line(file: Path, encoding: str) -> str:
    """The first line that is not in the encoding; empty for UTF-16, where lines cannot be found without decoding."""
    if encoding.startswith("utf-16"):
        return ""
    decoder = codecs.getdecoder(encoding)
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                decoder(line)
            except UnicodeError:
                return f", line {number}"
    return ""


def _of_tsv(lines: Iterator[str], above: int) -> Iterator[Record]:
    for number, line in enumerate(lines, above + 1):
        if bare := line.rstrip("\r\n"):
            cells = bare.split("\t")
            yield number, [_unquoted(cell) for cell in cells] if '"' in bare else cells


def _unquoted(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner else cell


def _of_csv(lines: Iterator[str], number: int, mark: str, row_like: Callable[[str], bool]) -> Iterator[Record]:
    again: deque[str] = deque()
    while line := again.popleft() if again else next(lines, ""):
        number += 1
        if '"' not in line:
            if bare := line.rstrip("\r\n"):
                yield number, bare.split(mark)
            continue
        cells, more = _parsed(line, mark), list[str]()
        if cells is None:
            more, closed = _rest(line, chain(_drained(again), lines), row_like)
            cells = _parsed(line + "".join(more), mark) if closed else None
        yield number, cells
        if cells is None:
            again.extendleft(reversed(more))
        else:
            number += len(more)


def _drained(queue: deque[str]) -> Iterator[str]:
    while queue:
        yield queue.popleft()


def _rest(line: str, lines: Iterator[str], row_like: Callable[[str], bool]) -> tuple[list[str], bool]:
    """The lines after one that opens a quote, up to a second one that looks like a row, and whether they close the quote."""
    more: list[str] = []
    quotes, rows = line.count('"'), int(row_like(line))
    while quotes % 2 and rows < 2 and len(more) < _MAX_LINES and (line := next(lines, "")):
        more.append(line)
        quotes += line.count('"')
        rows += row_like(line)
    return more, bool(more) and rows < 2 and quotes % 2 == 0


def _row_like(mark: str, width: int, place: int) -> Callable[[str], bool]:
    """A test whether a line looks like a row: enough fields, and an image name in column `place`."""
    endings = (*Image.registered_extensions(),)
    place = -1 if place == width - 1 else place

    def check(line: str) -> bool:
        cells = line.rstrip("\r\n").split(mark)
        return len(cells) >= width > place and cells[place].strip(' "').lower().endswith(endings)

    return check


def _parsed(text: str, mark: str) -> list[str] | None:
    """The fields of one row, or None if its quotes are unbalanced."""
    try:
        rows = list(csv.reader([text], delimiter=mark, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
