"""The classes that attacks on a data set aim at: ImageNet's, the data set's own categories, or a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from bench.api.data import Vocabulary
from bench.api.plugin import Params
from bench.data.class_names import name_lines, plain
from bench.data.vocabularies import imagenet
from bench.errors import UserError

IMAGENET, CATEGORIES = "imagenet", "categories"

Names = str | tuple[str | tuple[str, ...], ...]
"""As `data.classes` takes them."""
Lines = Sequence[tuple[str, Sequence[str]]]
"""A name and its synonyms, one class each."""


class LaterParams(Params):
    """Parameters of which some, `later`, were added to a version: at their defaults they are in no key."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {name: value for name, value in handler(self).items() if name not in self.later or value != fields[name].default}


class ClassParams(LaterParams):
    """Of a data set with captions."""

    later = frozenset({"classes"})
    classes: Names = Field(
        default=IMAGENET,
        description="what attacks aim at: imagenet, categories (of the labels), a file with a class a line, or a list of names",
    )


def vocabulary(classes: Names, folder: Path, categories: Sequence[str] | None) -> Vocabulary:
    """The classes as `data.classes` asks for them, with the prompts of ImageNet's.

    A file, within `folder` unless its path is absolute, has lines of a name and, between commas or tabs, its synonyms; a list
    has names, or lists of a name and its synonyms. `categories` are those of the labels, None if there are none. Raises
    UserError naming the line or entry: of a name without letters, or one that is given twice.
    """
    if classes == IMAGENET:
        return imagenet()
    where, lines = _named(classes, folder, categories)
    _check(where, lines)
    synonyms: tuple[tuple[str, ...], ...] = tuple(tuple(others) for _, others in lines)
    return Vocabulary(tuple(name for name, _ in lines), imagenet().templates, synonyms if any(synonyms) else ())


def identity(found: Vocabulary) -> list[object]:
    """What of the classes belongs to a data set's fingerprint; of ImageNet's nothing, which every version began with."""
    return [] if found == imagenet() else [found.names, found.synonyms]


def _named(classes: Names, folder: Path, categories: Sequence[str] | None) -> tuple[str, Lines]:
    """Where classes are named, and their names and synonyms."""
    if classes == CATEGORIES:
        if categories is None:
            hint = "name their column with data.label_column where there is one, or give a file or list of classes"
            raise UserError(f"--set data.classes={CATEGORIES}: no labels were read; {hint}")
        if all(name.isdecimal() for name in categories):
            raise UserError(f"--set data.classes={CATEGORIES}: the labels are numbers; name them by a file or list of classes")
        return "the labels", [(name, ()) for name in categories]
    if isinstance(classes, str) and "," not in classes:
        return str(folder / classes), _of_file(folder / classes)
    return "--set data.classes", _of_list(classes.split(",") if isinstance(classes, str) else classes)


def _of_file(file: Path) -> Lines:
    if not file.exists():
        hint = f"give its whole path, one in the data root, {IMAGENET}, {CATEGORIES} or a list of names"
        raise UserError(f"--set data.classes: there is no file {file}; {hint}")
    return [(name, synonyms) for _, name, synonyms in name_lines(file)]


def _of_list(given: Sequence[str | tuple[str, ...]]) -> Lines:
    lines = []
    for entry in given:
        texts = [unicodedata.normalize("NFC", text.strip()) for text in ([entry] if isinstance(entry, str) else entry)]
        if not texts or not all(texts):
            raise UserError(f"--set data.classes: the entry {entry!r} is empty: give each class a name")
        lines.append((texts[0], texts[1:]))
    return lines


def _check(where: str, lines: Lines) -> None:
    if len(lines) < 2:
        raise UserError(f"{where} names {len(lines)} classes: give two at least")
    owner: dict[str, int] = {}
    for place, (name, synonyms) in enumerate(lines):
        for text in (name, *synonyms):
            if not any(character.isalnum() for character in text):
                raise UserError(f"{where}: '{text}' has no letter or digit, so no caption can mention it: give another name")
            if (other := owner.setdefault(plain(text), place)) != place:
                raise UserError(f"{where}: '{text}' occurs twice, for '{lines[other][0]}' and for '{name}': remove one")
