"""Names of classes that folders stand for, and their synonyms."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from bench.api.data import Vocabulary
from bench.data.mentions import MentionIndex
from bench.data.vocabularies import imagenet
from bench.errors import UserError, did_you_mean

_WORDNET = re.compile(r"n\d{8}")


def class_names(folders: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """A name for each folder: from `file`, of lines FOLDER then NAME, where that has one; else ImageNet's where the folder is
    one of its WordNet ids; else the folder's own, underscores and dashes as spaces.

    Raises UserError naming the folder or line.
    """
    given = _given_names(folders, file) if file else {}
    names = tuple(given.get(folder) or _name(folder) for folder in folders)
    first: dict[str, str] = {}
    for folder, name in zip(folders, names, strict=True):
        if not any(character.isalnum() for character in name):
            raise UserError(f"the class folder '{folder}' gives no name: {_GIVE}")
        other = first.setdefault(name.casefold(), folder)
        if other != folder and not (_WORDNET.match(folder) and _WORDNET.match(other)):
            raise UserError(f"the class folders '{other}' and '{folder}' have one name, '{name}': rename one, or {_GIVE}")
    return names


def class_synonyms(names: Sequence[str], folders: Sequence[str], file: Path) -> tuple[tuple[str, ...], ...]:
    """The synonyms of each class, from lines of a class's name, or its folder's, and synonyms.

    Raises UserError naming the line: of an unknown class, or of a synonym that mentions another class.
    """
    places = {plain(text): place for texts in (folders, names) for place, text in enumerate(texts)}
    found: list[tuple[str, ...]] = [()] * len(names)
    owners: dict[str, int] = {}
    index = MentionIndex(names)
    for line, name, synonyms in name_lines(file):
        if (place := places.get(plain(name))) is None:
            raise UserError(f"{file}, line {line}: no class is called '{name}'; {did_you_mean(name, names)}")
        for synonym in synonyms:
            others = [other for other in index.members(synonym) if names[other].casefold() != names[place].casefold()]
            if others or owners.setdefault(synonym.casefold(), place) != place:
                other = others[0] if others else owners[synonym.casefold()]
                raise UserError(f"{file}, line {line}: '{synonym}' mentions the class '{names[other]}' too: remove it")
        found[place] = tuple(dict.fromkeys((*found[place], *synonyms)))
    return tuple(found)


_GIVE = "give it one with --set data.names=FILE, of lines FOLDER,NAME"


def _name(folder: str) -> str:
    """Raises UserError for a WordNet id that is not ImageNet's."""
    wordnet = _WORDNET.match(folder)
    spoken = folder[wordnet.end() :] if wordnet else folder
    name = " ".join(unicodedata.normalize("NFC", spoken).replace("_", " ").replace("-", " ").split())
    if wordnet and not name:
        if folder not in _imagenet():
            raise UserError(f"the class folder '{folder}' is a WordNet id that is not one of ImageNet's 1,000: {_GIVE}")
        return _imagenet()[folder]
    return name


@cache
def _imagenet() -> Mapping[str, str]:
    from timm.data import ImageNetInfo

    return dict(zip(ImageNetInfo("imagenet1k").label_names(), imagenet().names, strict=True))


def _given_names(folders: Sequence[str], file: Path) -> dict[str, str]:
    """Lines of WordNet ids without a folder are passed over, since such lists are of all of WordNet."""
    known = {plain(folder): folder for folder in folders}
    given = {}
    for line, key, texts in name_lines(file):
        if folder := known.get(plain(key)):
            if not texts:
                raise UserError(f"{file}, line {line}: '{key}' has no name: write FOLDER,NAME")
            given[folder] = texts[0]
        elif not _WORDNET.fullmatch(key):
            raise UserError(f"{file}, line {line}: there is no class folder '{key}'; {did_you_mean(key, folders)}")
    return given


def name_lines(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Number, first text and further texts, between commas and tabs, of each line that has some.

    Raises UserError when the file cannot be read.
    """
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line} is not UTF-8: save the file in that encoding") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): name a file in the data root, or its whole path") from error
    for number, row in enumerate(content.splitlines(), 1):
        if texts := [unicodedata.normalize("NFC", text.strip()) for text in re.split(r"[,\t]", row) if text.strip()]:
            yield number, texts[0], texts[1:]


def class_places(vocabulary: Vocabulary) -> dict[str, int]:
    """The class of each name, and of each synonym that is no name, as `plain` writes them."""
    places: dict[str, int] = {}
    for index, name in enumerate(vocabulary.names):
        places.setdefault(plain(name), index)
    for index, others in enumerate(vocabulary.synonyms):
        for other in others:
            places.setdefault(plain(other), index)
    return places


def plain(text: str) -> str:
    """A name as it is compared."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().replace("_", " ").replace("-", " ").split())
