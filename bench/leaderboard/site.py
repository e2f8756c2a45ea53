"""`bench leaderboard build`: the pages of the site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from bench.disk import atomic_write, disk_errors
from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.leaderboard.board import Board, load_board
from bench.leaderboard.downloads import Archive, copy_archives, rows_csv
from bench.leaderboard.faulty import Faulty, load_faulty
from bench.leaderboard.methods import Method, method_file, methods_of
from bench.leaderboard.settings import Setting, settings_of
from bench.reports.engagement import limits_of
from bench.reports.labels import FINE_TUNED, SCRATCH, ranges
from bench.reports.page import environment
from bench.reports.scatter import scatter
from bench.reports.write import results_csv

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Site:
    """What the pages show."""

    board: Board
    settings: list[Setting]
    methods: list[Method]
    faults: tuple[Faulty, ...]
    archives: list[Archive]

    @property
    def tracks(self) -> list[tuple[str, list[Setting]]]:
        """The settings of each track that has any, from scratch first."""
        by_track = [(track, [each for each in self.settings if each.track == track]) for track in (SCRATCH, FINE_TUNED)]
        return [(track, settings) for track, settings in by_track if settings]


def build(folders: Sequence[Path], to: Path, archives: Sequence[Path] = (), faults: Sequence[Faulty] | None = None) -> Site:
    """Write the site. The same records give the same bytes.

    Parameters
    ----------
    folders : sequence of Path
        Results folders: one's own, and those that `bench verify --to` wrote.
    to : Path
        Folder of the site; created if missing.
    archives : sequence of Path
        Files to offer for download.
    faults : sequence of Faulty, optional
        The list of faulty versions; by default the one that comes with this package.

    Raises
    ------
    UserError
        If a folder is no results folder, or the site cannot be written.
    """
    board = load_board(folders)
    if not board.runs:
        raise UserError(f"{', '.join(map(str, folders))}: no records; `bench run` makes them")
    load_plugins()
    known = load_faulty() if faults is None else tuple(faults)
    with disk_errors(to):
        to.mkdir(parents=True, exist_ok=True)
        copied = copy_archives(archives, to)
    settings = settings_of(board, known)
    site = Site(board, settings, methods_of(settings), known, copied)
    for name, text in {**_pages(site), "rows.csv": rows_csv(settings), "results.csv": results_csv(board.runs)}.items():
        with atomic_write(to / name) as stream:
            stream.write(text.encode())
    return site


def _pages(site: Site) -> dict[str, str]:
    """The content of each page, by file name."""
    made = _environment()
    recipes = _recipes(site.settings)
    pages = {"index.html": made.get_template("index.html.j2").render(site=site, recipes=recipes, counts=_counts(site.board))}
    for setting in site.settings:
        pages[f"{setting.id}.html"] = made.get_template("setting.html.j2").render(
            setting=setting,
            board=site.board,
            drawing=scatter(setting.drawn) if setting.drawn else None,
            limited=any(limits_of(run) for run in setting.section.runs),
            archives={archive.sha256: archive for archive in site.archives},
        )
    for method in site.methods:
        pages[method.file] = made.get_template("method.html.j2").render(method=method, recipes=recipes)
    return pages


def _environment() -> jinja2.Environment:
    made = environment(TEMPLATES)
    made.globals["method_file"] = method_file
    made.filters["ranges"] = ranges
    return made


def _recipes(settings: Sequence[Setting]) -> dict[str, str]:
    """What the pages call each setting's recipe: its budget, or all of it where that does not tell it from another."""
    shown = Counter((each.title, each.track, each.budget) for each in settings)
    return {each.id: each.budget if shown[each.title, each.track, each.budget] == 1 else each.recipe for each in settings}


def _counts(board: Board) -> list[tuple[str, int]]:
    """Numbers of runs by level, the one that tells most first."""
    found = Counter(board.origins[run.key].level for run in board.runs if run.record)
    return sorted(found.items(), key=lambda each: -each[1])
