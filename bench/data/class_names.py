"""Class names from folder names, and synonyms of classes from a file."""

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
    """The class name of each folder.

    From `file`, with lines FOLDER,NAME, if that has one; otherwise ImageNet's, if the folder is one of its WordNet ids;
    otherwise the folder's name, with underscores and dashes as spaces.

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
    """The synonyms of each class, from `file`, with lines NAME,SYNONYM,... (NAME may be the folder's).

    Raises UserError naming the line, for an unknown class or a synonym that mentions another class.
    """
    indices = {plain(text): index for texts in (folders, names) for index, text in enumerate(texts)}
    found: list[tuple[str, ...]] = [()] * len(names)
    owners: dict[str, int] = {}
    mentions = MentionIndex(names)
    for line, name, synonyms in name_lines(file):
        if (own := indices.get(plain(name))) is None:
            raise UserError(f"{file}, line {line}: no class is called '{name}'; {did_you_mean(name, names)}")
        for synonym in synonyms:
            others = [other for other in mentions.members(synonym) if names[other].casefold() != names[own].casefold()]
            if others or owners.setdefault(synonym.casefold(), own) != own:
                other = others[0] if others else owners[synonym.casefold()]
                raise UserError(f"{file}, line {line}: '{synonym}' mentions the class '{names[other]}' too: remove it")
        found[own] = tuple(dict.fromkeys((*found[own], *synonyms)))
    return tuple(found)


_GIVE = "give it one with --set data.names=FILE, a file with lines FOLDER,NAME"


def _name(folder: str) -> str:
    """Raises UserError for a WordNet id that is not ImageNet's."""
    wordnet = _WORDNET.match(folder)
    label = folder[wordnet.end() :] if wordnet else folder
    name = " ".join(unicodedata.normalize("NFC", label).replace("_", " ").replace("-", " ").split())
    if wordnet and not name:
        if folder not in _imagenet():
            raise UserError(f"the class folder '{folder}' is a WordNet id that is not one of ImageNet's 1,000: {_GIVE}")
        return _imagenet()[folder]
    return name


@cache
def _imagenet() -> Mapping[str, str]:
    from timm.data.imagenet_info import ImageNetInfo

    synsets = ImageNetInfo("imagenet1k").label_names()  # type: ignore[no-untyped-call]
    return dict(zip(synsets, imagenet().names, strict=True))


def _given_names(folders: Sequence[str], file: Path) -> dict[str, str]:
    """Names by folder. WordNet ids without a folder are ignored, since such lists cover all of WordNet."""
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
    """Yield number, first field and further fields, separated by commas or tabs, of each line that is not blank.

    Raises UserError if the file cannot be read.
    """
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line} is not UTF-8: save the file as UTF-8") from error
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): give a file in the data root, or an absolute path"
        ) from error
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
