"""The pages: complete, self-contained, and safe from what records say."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from bench.cli import main
from bench.errors import UserError
from bench.leaderboard.faulty import Faulty
from bench.leaderboard.methods import method_file
from bench.leaderboard.site import Site, build
from tests.reports import records_maker as maker

from .conftest import rekeyed

Copy = Callable[..., Path]


class _Page(HTMLParser):
    """Tags, links, ids and visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._code = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self._code = tag in ("script", "style")
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if tag == "a" else []
        self.loads += [given[name] or "" for name in ("src", "srcset", "data") if name in given]
        self.loads += [given["href"] or ""] if tag in ("link", "base") else []

    def handle_endtag(self, tag: str) -> None:
        self._code = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._code else data


@pytest.fixture(scope="module")
def site(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Site]:
    to = tmp_path_factory.mktemp("site")
    return to, build([made], to)


def test_every_page_is_there_and_loads_nothing(site: tuple[Path, Site]) -> None:
    to, found = site
    wanted = {"index.html", "rows.csv", "results.csv", *(f"{each.id}.html" for each in found.settings)}
    wanted |= {method_file("defense", name) for name in ("clip", "safeclip", "roclip", maker.EVIL)}
    wanted |= {method_file("attack", name) for name in ("badnet", "wanet", maker.EVIL)}
    assert {path.name for path in to.iterdir()} == wanted
    pages = {path.name: _Page(path) for path in to.glob("*.html")}
    for name, page in pages.items():
        assert page.loads == []
        assert len(page.ids) == len(set(page.ids))
        for link in page.links:
            file, _, anchor = link.partition("#")
            assert (to / unquote(file or name)).is_file()
            if anchor and (file or name).endswith(".html"):
                assert anchor in pages[unquote(file) or name].ids, f"{name}: {link}"
        source = re.sub(r"<pre.*?</pre>", "", (to / name).read_text(), flags=re.DOTALL)
        assert not re.search(r"url\(|@import|fetch\(|https?:", source)


def test_names_in_records_stay_text(site: tuple[Path, Site]) -> None:
    to, _ = site
    for path in to.glob("*.html"):
        source = path.read_text()
        assert "<script>alert" not in source
        assert source.count("<script>") == 1
    assert maker.EVIL in _Page(to / "index.html").text


def test_file_names_are_plain_and_differ() -> None:
    names = ["a", "a b", "a/b", "../../etc/passwd", "a-b", "x" * 200, "x" * 201, "", "ü"]
    files = [method_file("defense", name) for name in names]
    assert len(set(files)) == len(names)
    assert all(re.fullmatch(r"defense-[A-Za-z0-9_-]*\.html", file) for file in files)


def test_a_table_needs_no_script(site: tuple[Path, Site]) -> None:
    """Rows are in the page, in the order of their ranks; the filter is hidden until a script shows it."""
    to, found = site
    setting = next(each for each in found.settings if each.attacks and len(each.rows) == 5)
    source = (to / f"{setting.id}.html").read_text()
    table = re.search(r'<table class="sortable ranking".*?</table>', source, re.DOTALL)
    assert table is not None
    ranks = re.findall(r'<td class="rank"[^>]*>([^<]*)</td>', table[0])
    assert ranks == ["1", "2", "3", "–", "–"]
    assert "undefended" in table[0]
    assert re.search(r'<p class="filter" data-filters="ranking" hidden>', source)


def test_rows_as_csv(site: tuple[Path, Site]) -> None:
    to, found = site
    with (to / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(each.rows) for each in found.settings)
    (row,) = [each for each in rows if each["defense"] == "safeclip (threshold=0.9)"]
    assert float(row["worst_asr"]) == pytest.approx(0.115)
    assert (row["rank"], row["worst_attack"], row["track"], row["level"]) == ("2", "badnet 0.5%", "from scratch", "own")
    (plain,) = [each for each in rows if each["defense"] == "clip" and "8 epochs" in each["recipe"]]
    assert (plain["rank"], plain["unranked"]) == ("", "undefended")


def test_the_page_of_a_method(site: tuple[Path, Site]) -> None:
    to, _ = site
    page = _Page(to / "defense-safeclip.html")
    assert "Yang, Gao & Mirzasoleiman" in page.text
    assert "version 1" in page.text
    assert "badnet 0.5%" in page.text
    assert "attack ineffective" in page.text  # wanet
    assert "It is not installed" in _Page(to / method_file("defense", maker.EVIL)).text


def test_the_same_records_give_the_same_bytes(made: Path, site: tuple[Path, Site], tmp_path: Path) -> None:
    build([made], tmp_path / "again")
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == {
        p.name: p.read_bytes() for p in site[0].iterdir()
    }


def test_tracks_have_pages_of_their_own(copy: Copy, tmp_path: Path) -> None:
    tuned = rekeyed(copy("tuned"), lambda spec: spec["model"].update(weights="sha256-" + "0" * 64))
    site = build([copy("scratch"), tuned], tmp_path / "site")
    text = _Page(tmp_path / "site" / "index.html").text
    assert text.index("Trained from scratch") < text.index("Fine-tuned from given weights")
    for each in site.settings:
        subtitle = (tmp_path / "site" / f"{each.id}.html").read_text().partition('class="muted subtitle">')[2][:20]
        assert subtitle.startswith("fine-tuned from" if each.track == "fine-tuned" else "from scratch")


def test_faulty_versions_are_listed_and_marked(made: Path, tmp_path: Path) -> None:
    fault = Faulty(kind="defense", name="safeclip", version="1", reason="its safe set <leaked>")
    site = build([made], tmp_path, faults=[fault])
    assert "its safe set <leaked>" in _Page(tmp_path / "index.html").text
    for each in site.settings:
        assert "faulty: safeclip 1: its safe set <leaked>" in _Page(tmp_path / f"{each.id}.html").text


def test_archives_are_offered_and_linked(copy: Copy, tmp_path: Path) -> None:
    archive = tmp_path / "an entry.zip"
    archive.write_bytes(b"content")
    folder = copy("entry", level="measured again")
    marker = folder / "verified.json"
    marker.write_text(marker.read_text().replace("a" * 64, hashlib.sha256(b"content").hexdigest()))
    site = build([folder], tmp_path / "site", [archive])
    assert (tmp_path / "site" / "archives" / "an entry.zip").read_bytes() == b"content"
    for name in ("index.html", f"{site.settings[0].id}.html"):
        assert "archives/an%20entry.zip" in _Page(tmp_path / "site" / name).links
    with pytest.raises(UserError, match=r"none\.zip: no such file"):
        build([folder], tmp_path / "other", [tmp_path / "none.zip"])


def test_the_command(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "build", str(made), "--to", str(tmp_path / "site")])
    assert not ended.value.code
    assert "2 settings" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "build", str(tmp_path / "nothing"), "--to", str(tmp_path / "site")])
    assert ended.value.code == 2
    assert f"{tmp_path / 'nothing'}: no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "build", str(tmp_path / "empty"), "--to", str(tmp_path / "site")])
    assert "no records" in capsys.readouterr().err
    (made / "verified.json").write_text("{}")
    try:
        with pytest.raises(SystemExit):
            main(["leaderboard", "build", str(made), "--to", str(tmp_path / "site")])
        assert "verified.json: damaged" in capsys.readouterr().err
    finally:
        (made / "verified.json").unlink()
