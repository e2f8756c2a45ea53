"""The rows of a CSV or TSV file, whoever wrote it."""

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
_EXCELS = re.compile(r"sep=(.)\r?\n?$")
_FLICKRS = re.compile(r"([^\t]+\.\w+)#\d+\t")
"""A line of Flickr30k's list, IMAGE#NUMBER tab CAPTION, which has no header."""


@dataclass(frozen=True)
class Header:
    """separator: one of SEPARATORS by name, or a character; columns: as they are named in the file."""

    separator: str
    columns: Sequence[str]


Record = tuple[int, list[str] | None]
"""The line that a row starts at, and its fields; None where its quotes are unbalanced."""


def read(file: Path, separator: str, encoding: str, wanted: Sequence[str]) -> tuple[Header, Iterator[Record]]:
    """The header of a file, and its rows that are not blank.

    A row of a TSV is a line: a quote is a character like others there, but a field that is quoted by the rules of CSV is
    unquoted. With other separators a quoted field may span lines, but not one that looks like a row of its own, with the name
    of an image in the first column of `wanted`: a quote that is never closed costs its own line, not what follows.
    `separator` auto is the one that finds most of the columns `wanted`; `encoding` auto is UTF-8, or UTF-16 where the file
    begins like it. A list of Flickr30k, without header, has the columns `wanted[:2]`. Raises UserError, from the iterator too,
    when the file cannot be read, or not in that encoding.
    """
    lines = _lines(file, encoding)
    number, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if separator in ("auto", "tab") and _FLICKRS.match(first):
        images = (_FLICKRS.sub(r"\1\t", line) for line in chain([first], lines))
        return Header("tab", wanted[:2]), _of_tsv(images, number - 1)
    if said := _EXCELS.match(first):
        separator = said[1] if separator == "auto" else separator
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
    """The place of a column, whatever its case and the spaces around it. Raises LookupError with a hint."""
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
        hint = "save the file in that encoding, or name its own, for example --set data.encoding=cp1252"
        raise UserError(f"{file}{_place(file, name)} is not {name.removesuffix('-sig').upper()}: {hint}") from error
    except LookupError as error:
        raise UserError(f"--set data.encoding={encoding}: there is no such encoding; try utf-8, utf-16 or cp1252") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): give a file that you may read") from error


def _encoding(file: Path, sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(sample) > 1 and b"\0" in sample[:2]:
        return "utf-16-le" if sample[1] == 0 else "utf-16-be"
    return "utf-8-sig"


def _place(file: Path, encoding: str) -> str:
    """The first line that is not in the encoding, where lines can be told without it."""
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
    """The lines after one that opens a quote, and whether they close it; they end where a second one is a row of its own."""
    more: list[str] = []
    quotes, rows = line.count('"'), int(row_like(line))
    while quotes % 2 and rows < 2 and len(more) < _MAX_LINES and (line := next(lines, "")):
        more.append(line)
        quotes += line.count('"')
        rows += row_like(line)
    return more, bool(more) and rows < 2 and quotes % 2 == 0


def _row_like(mark: str, width: int, place: int) -> Callable[[str], bool]:
    """Whether a line is likely a row: it has enough fields, and the name of an image where the header has it."""
    endings = (*Image.registered_extensions(),)
    place = -1 if place == width - 1 else place

    def check(line: str) -> bool:
        cells = line.rstrip("\r\n").split(mark)
        return len(cells) >= width > place and cells[place].strip(' "').lower().endswith(endings)

    return check


def _parsed(text: str, mark: str) -> list[str] | None:
    """The fields of one row, or None where its quotes are unbalanced."""
    try:
        rows = list(csv.reader([text], delimiter=mark, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
