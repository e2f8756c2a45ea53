"""BibTeX entries of the papers that plugins implement: keys of `bench/references.bib`, or entries as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from bench.errors import UserError, did_you_mean

FILE = "references.bib"
ALWAYS_CITED = ("bench", "openclip")
"""Keys that every run cites."""
_ENTRY = re.compile(r"@\w+\s*\{\s*([^\s,{}]+)\s*,")
_FIELD = re.compile(r"(\w+)\s*=\s*")


@dataclass(frozen=True)
class Reference:
    """A BibTeX entry: its key, its raw fields, and its text."""

    key: str
    fields: dict[str, str]
    text: str

    def line(self) -> str:
        """Authors, title, venue, year and link, in one line."""
        plain = {name: re.sub(r"[{}]|\\['`^\"~]", "", value).replace("--", "–") for name, value in self.fields.items()}
        authors = [name.partition(",")[0].strip() for name in plain.get("author", "").split(" and ")]
        who = f"{authors[0]} et al" if len(authors) > 3 else _listed(authors)
        where = next((plain[name] for name in ("booktitle", "journal", "institution", "publisher") if name in plain), "")
        citation = ". ".join(part for part in (who, plain.get("title", ""), where) if part)
        return " ".join(part for part in (f"{citation}, {plain.get('year', 'no year')}.", plain.get("url", "")) if part)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} & {names[-1]}" if len(names) > 1 else names[0]


def parse_bibtex(text: str) -> list[Reference]:
    """The entries of a BibTeX text. Raises ValueError for an unclosed brace."""
    found = []
    for start in _ENTRY.finditer(text):
        end = _closing(text, text.index("{", start.start()))
        found.append(Reference(start[1], dict(_fields(text[start.end() : end])), text[start.start() : end + 1]))
    return found


def _fields(body: str) -> Iterator[tuple[str, str]]:
    position = 0
    while field := _FIELD.search(body, position):
        position = field.end()
        if body[position : position + 1] == "{":
            end = _closing(body, position)
            value = body[position + 1 : end]
        elif body[position : position + 1] == '"':
            end = body.index('"', position + 1)
            value = body[position + 1 : end]
        else:
            end = min(index for index in (body.find(",", position), len(body)) if index >= 0)
            value = body[position:end]
        yield field[1].lower(), " ".join(value.split())
        position = end + 1


def _closing(text: str, start: int) -> int:
    """The index of the brace that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return index
    raise ValueError("unclosed brace")


@cache
def builtin() -> dict[str, Reference]:
    """The entries of `bench/references.bib` by key."""
    return {entry.key: entry for entry in parse_bibtex((files("bench") / FILE).read_text("utf-8"))}


def resolve(citations: Iterable[str], owner: str) -> list[Reference]:
    """The entries of keys and BibTeX texts. Raises UserError naming `owner` for anything else."""
    found = []
    for citation in citations:
        if "@" not in citation:
            if citation not in builtin():
                hint = did_you_mean(citation, builtin())
                raise UserError(f"{owner} cites '{citation}', which is neither BibTeX nor a key of bench/{FILE}; {hint}")
            found.append(builtin()[citation])
            continue
        try:
            entries = parse_bibtex(citation)
        except ValueError as error:
            raise UserError(f"{owner} has an invalid BibTeX citation: {error}") from None
        if not entries:
            raise UserError(f"{owner} has an invalid BibTeX citation: write @misc{{key, title = {{...}}, ...}}")
        found += entries
    return found


def for_plugin(plugin: type) -> list[Reference]:
    """The citations of a plugin, without those of its base classes."""
    return resolve(vars(plugin).get("citations", ()), getattr(plugin, "name", plugin.__name__))
