"""Figures on the pages: made anew from committed records, named as not committed, or no measurements at all."""

from __future__ import annotations

import re

import pytest

from .figures import MEASURED
from .records import ROOT

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
GIVEN = {
    "docs/adding-a-suite.md": ("1. Write the file", "3. Report it"),
    "docs/adding-an-attack.md": ("3. Try it in seconds", "4. Run it"),
    "docs/data.md": ("Targets and images",),
    "docs/datasheet.md": ("Datasheet for scenes", "Licences of other data sets"),
    "docs/how-numbers-are-made.md": ("Intervals", "An ineffective attack", "A defense that did not engage", "Threads"),
    "docs/reading-the-report.md": ("The tables of a setting",),
    "docs/recipes.md": ("Two rules", "Schedules are shares of the run"),
    "docs/statistics.md": ("What the report says", "Within a seed"),
    "docs/submitting.md": ("What a verification sees",),
    "docs/validity.md": ("Between published data sets",),
    "docs/the-paper-at-full-size.md": ("2. Estimate the cost", "On other data"),
}
"""Sections whose figures are settings, limits, published values or arithmetic."""
FIGURE = re.compile(r"(?<![\w.,-])(?:\d*\.\d+|[\d,.]+%|[\d,]+ (?:pairs/s|pairs (?:a|per) second))(?!\d)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ {4}.*$", re.MULTILINE)
NO_FIGURE = re.compile(r"`[^`]*`|\]\([^)]*\)|version \d\.\d|Python 3\.\d+|PyTorch \d\.\d+|95% (Wilson )?intervals?")


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", MEASURED)
def test_figures_follow_from_the_committed_records(page: str) -> None:
    text = words(PAGES[page].read_text(encoding="utf-8"))
    assert [made for made in MEASURED[page]() if made not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_other_figure_is_measured_and_unnamed(page: str) -> None:
    """What is left after the figures of the test above is where a block, or its section or page at its start, says so."""
    made = [plain(text) for text in MEASURED.get(page, list)()]
    parts = sections(PAGES[page].read_text(encoding="utf-8"))
    opening = parts[0][1][0]
    unnamed = [
        block
        for title, blocks in parts
        if title not in GIVEN.get(page, ())
        for block in blocks
        if not any("not committed" in text for text in (opening, blocks[0], block))
        and FIGURE.search(without(made, plain(block)))
    ]
    assert unnamed == []


def sections(text: str) -> list[tuple[str, list[str]]]:
    """Title and blocks of each section: items and paragraphs, each with the table after it. Of code, only output counts."""
    text = CODE.sub("", FENCE.sub(lambda fence: fence[2] if fence[1] == "text" else "", text))
    found = []
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        found.append((title, [words(block) for block in re.split(r"\n\s*\n(?!\|)|\n(?=- )", body) if block.strip()] or [""]))
    return found


def plain(text: str) -> str:
    """Without code, links and numbers of versions."""
    return NO_FIGURE.sub("", text)


def without(made: list[str], block: str) -> str:
    for text in made:
        block = block.replace(text, "")
    return block
