"""The papers that plugins implement, as BibTeX: those of `bench/references.bib` by key, and anybody's as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from bench.errors import UserError, did_you_mean

FILE = "references.bib"
ALWAYS = ("bench", "openclip")
"""What every run uses."""
_ENTRY = re.compile(r"@\w+\s*\{\s*([^\s,{}]+)\s*,")
_FIELD = re.compile(r"(\w+)\s*=\s*")


@dataclass(frozen=True)
class Reference:
    """An entry: its key, its fields as written, and its text."""

    key: str
    fields: dict[str, str]
    text: str

    def line(self) -> str:
        """Authors, title, where and when it was published, link."""
        plain = {name: re.sub(r"[{}]|\\['`^\"~]", "", value).replace("--", "–") for name, value in self.fields.items()}
        authors = [name.partition(",")[0].strip() for name in plain.get("author", "").split(" and ")]
        who = f"{authors[0]} et al" if len(authors) > 3 else _listed(authors)
        where = next((plain[name] for name in ("booktitle", "journal", "institution", "publisher") if name in plain), "")
        said = ". ".join(part for part in (who, plain.get("title", ""), where) if part)
        return " ".join(part for part in (f"{said}, {plain.get('year', 'no year')}.", plain.get("url", "")) if part)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} & {names[-1]}" if len(names) > 1 else names[0]


def parsed(text: str) -> list[Reference]:
    """The entries of a BibTeX text. Raises ValueError where one has no end."""
    found = []
    for start in _ENTRY.finditer(text):
        end = _closing(text, text.index("{", start.start()))
        found.append(Reference(start[1], dict(_fields(text[start.end() : end])), text[start.start() : end + 1]))
    return found


def _fields(body: str) -> Iterator[tuple[str, str]]:
    place = 0
    while field := _FIELD.search(body, place):
        place = field.end()
        if body[place : place + 1] == "{":
            end = _closing(body, place)
            value = body[place + 1 : end]
        elif body[place : place + 1] == '"':
            end = body.index('"', place + 1)
            value = body[place + 1 : end]
        else:
            end = min(index for index in (body.find(",", place), len(body)) if index >= 0)
            value = body[place:end]
        yield field[1].lower(), " ".join(value.split())
        place = end + 1


def _closing(text: str, place: int) -> int:
    """Where the brace that opens at `place` is closed."""
    depth = 0
    for index in range(place, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return index
    raise ValueError("a brace is not closed")


@cache
def known() -> dict[str, Reference]:
    """Those of the project by key."""
    return {entry.key: entry for entry in parsed((files("bench") / FILE).read_text("utf-8"))}


def resolved(citations: Iterable[str], whose: str) -> list[Reference]:
    """The entries behind keys and BibTeX texts. Raises UserError naming `whose` they are where one is neither."""
    found = []
    for citation in citations:
        if "@" not in citation:
            if citation not in known():
                hint = did_you_mean(citation, known())
                raise UserError(f"{whose} cites '{citation}', which is neither BibTeX nor a key of bench/{FILE}; {hint}")
            found.append(known()[citation])
            continue
        try:
            entries = parsed(citation)
        except ValueError as error:
            raise UserError(f"{whose} cites what is not BibTeX: {error}") from None
        if not entries:
            raise UserError(f"{whose} cites what is not BibTeX: write @misc{{key, title = {{...}}, ...}}")
        found += entries
    return found


def of_plugin(plugin: type) -> list[Reference]:
    """What a plugin cites itself; of what it derives from, nothing."""
    return resolved(vars(plugin).get("citations", ()), getattr(plugin, "name", plugin.__name__))
