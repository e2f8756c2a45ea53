"""Footnotes of tables."""

from __future__ import annotations

from dataclasses import dataclass, field

TASK_NOTES = ("skipped", "partial")
"""Statuses of notes on downstream sets; these list all their locations."""


@dataclass
class Note:
    number: int
    status: str
    reason: str
    where: list[str] = field(default_factory=list)

    @property
    def places(self) -> str:
        most = len(self.where) if self.status in TASK_NOTES else 6
        rest = len(self.where) - most
        return "; ".join(self.where[:most]) + (f"; and {rest} more" if rest > 0 else "")


class Notes:
    """Footnotes of a table: equal reasons share a number."""

    def __init__(self) -> None:
        self.all: list[Note] = []

    def add(self, status: str, reason: str, where: str) -> int:
        for note in self.all:
            if (note.status, note.reason) == (status, reason):
                break
        else:
            note = Note(len(self.all) + 1, status, reason)
            self.all.append(note)
        if where not in note.where:
            note.where.append(where)
        return note.number
