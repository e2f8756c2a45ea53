"""Report files: exact numbers, reproducible bytes, self-contained, nothing executable from a record."""

from __future__ import annotations

import csv
import io
import re
import shlex
import statistics
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.matrix.store import Store
from bench.reports.command import command_of
from bench.reports.frames import COLUMNS
from bench.reports.records import load_runs
from bench.reports.terminal import print_tables
from bench.reports.write import write_report

from .records_maker import EVIL, FLOOR, NUMBERS, THRESHOLDS, key_for, make, write_evals, write_training


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


class Page(HTMLParser):
    """The page with the details of all runs opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(re.sub(r'<script type="text/html">(.*?)</script>', r"\1", text, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name)) is not None]


def test_results_csv_holds_every_number_exactly(store: Store) -> None:
    rows = rows_of(write_report(store, ["csv"])["results.csv"])
    assert list(rows[0]) == COLUMNS
    found = {(row["run_key"], row["metric"], row["task"]): row["value"] for row in rows}
    for (attack, defense), numbers in NUMBERS.items():
        for seed, *_, shape in numbers:
            assert float(found[key_for(attack, defense, seed), "top1", "shape"]) == shape
    empty = [row for row in rows if row["status"] != "done"]
    assert len(empty) == 2 + 3 + 3 + 2 * 3 + 3 + 3  # asr on `none`; two never run, two failed, one evaluator, one unsupported
    assert {(row["task"], row["metric"], row["value"]) for row in empty} == {("", "", "")}
    assert all(row["reason"] for row in empty)


def test_table_csv_against_means_by_hand(store: Store) -> None:
    rows = rows_of(write_report(store)["table.csv"])
    short = {(r["attack"], r["defense"]): r for r in rows if "8 epochs" in r["setting"]}
    for (attack, defense), numbers in NUMBERS.items():
        rate = {"none": "", "badnet": " 0.5%", "wanet": " 2%", EVIL: " 1%"}[attack]
        name = f"safeclip (threshold={THRESHOLDS[defense]['threshold']})" if defense in THRESHOLDS else defense
        row = short[attack + rate, name]
        assert int(row["seeds"]) == len(numbers)
        assert float(row["zero_shot.top1"]) == pytest.approx(statistics.mean(n[2] for n in numbers))
        assert float(row["linear_probe.top1"]) == pytest.approx(statistics.mean((n[3] + n[4]) / 2 for n in numbers))
        if attack == "none":
            assert row["asr"] == row["attack_effective"] == ""
            continue
        assert float(row["asr"]) == pytest.approx(statistics.mean(n[1] for n in numbers))
        assert float(row["asr_floor"]) == pytest.approx(FLOOR)
        assert row["attack_effective"] == {"badnet": "yes", "wanet": "no", EVIL: "unknown"}[attack]
        if len(numbers) > 1:
            assert float(row["asr_std"]) == pytest.approx(statistics.stdev(n[1] for n in numbers))
            assert row["asr_ci_low"] == ""
        else:
            assert (row["asr_std"], float(row["asr_ci_low"])) == ("", pytest.approx(numbers[0][1] - 0.02))
    partial = short["badnet 0.5%", "safeclip (threshold=0.9)"]
    assert (partial["seeds"], partial["seeds_asked"], partial["status"]) == ("2", "3", "missing")
    assert (short["badnet 0.5%", "roclip"]["status"], short["badnet 0.5%", "roclip"]["asr"]) == ("failed", "")
    assert short["wanet 2%", EVIL]["status"] == "unsupported"


def test_the_same_bytes_twice_and_elsewhere(store: Store, tmp_path: Path) -> None:
    first = {name: path.read_bytes() for name, path in write_report(store).items()}
    second = {name: path.read_bytes() for name, path in write_report(store).items()}
    elsewhere = {name: path.read_bytes() for name, path in write_report(make(tmp_path / "elsewhere")).items()}
    assert first == second == elsewhere
    assert sorted(first) == ["comparisons.csv", "index.html", "results.csv", "table.csv"]
    assert sorted(path.name for path in (store.root / "report").iterdir()) == sorted(first)


def test_formats(store: Store) -> None:
    assert sorted(write_report(store, ["html"])) == ["index.html"]
    with pytest.raises(UserError, match="did you mean 'html'"):
        write_report(store, ["htm"])


def test_nothing_from_a_record_is_markup(store: Store) -> None:
    page = Page(text := write_report(store)["index.html"].read_text(encoding="utf-8"))
    assert "alert(1)" in page.text
    assert EVIL not in text
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_the_page_stands_alone_and_its_links_lead_somewhere(store: Store) -> None:
    page = Page(text := write_report(store)["index.html"].read_text(encoding="utf-8"))
    assert not re.search(r"https?://|url\(|@import", text)
    assert not page.attributes("src")
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.attributes("href")} <= set(ids)
    assert {f"run-{run.key}" for run in load_runs(store)} <= set(ids)
    assert "loss is NaN" in page.text  # the traceback
    assert page.text.count("attack ineffective") == 2  # the column and its note
    assert len([name for name in ids if name.startswith("curve-")]) == 17  # 14 + 2 + 1 trained runs have a curve
    pictures = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert all(attrs["aria-labelledby"] in ids for attrs in pictures)
    scrollers = [attrs for tag, attrs in page.tags if attrs.get("class") == "scroll"]
    assert scrollers
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-labelledby") in ids for attrs in scrollers)


def test_bold_is_what_the_tables_say(store: Store) -> None:
    text = write_report(store)["index.html"].read_text(encoding="utf-8")
    first = text[text.index("Attack success rate <span") : text.index("Utility <span")]
    assert re.findall(r"<strong>\s*<a[^>]*>([^<]*)</a></strong>", first) == ["11.5"]


def test_empty_folder(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "empty")
    paths = write_report(store)
    assert "Nothing has been run" in paths["index.html"].read_text(encoding="utf-8")
    assert paths["results.csv"].read_text() == ",".join(COLUMNS) + "\n"
    assert rows_of(paths["table.csv"]) == []
    console = Console(width=80, record=True, file=io.StringIO())
    print_tables(store, console)
    assert len(console.export_text().splitlines()) == 1


def test_terminal_fits_80_columns_and_keeps_markup_as_text(store: Store) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    write_training(store, "badnet", "[red]x", 0)
    write_evals(store, "badnet", "[red]x", 0, (0.5, 0.5, 0.5, 0.5))
    print_tables(store, console)
    text = console.export_text()
    assert text.count("[red]x") == 4  # a verdict, two blocks of attacks, one of utility
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "92.0 ± 2.8" in text
    assert "loss is NaN" in text
    assert "safeclip" in text


def test_the_command_gives_back_the_specification(store: Store) -> None:
    run = next(run for run in load_runs(store) if run.key == key_for("badnet", "safeclip", 1))
    words = shlex.split(" ".join(command_of(run)))
    options = dict(zip(words[2:12:2], words[3:12:2], strict=True))
    assert words[:2] == ["bench", "run"]
    assert options == {
        "--data": "scenes", "--model": "scenes-small", "--attack": "badnet", "--defense": "safeclip", "--seeds": "1",
    }  # fmt: skip
    sets = dict(word.split("=", 1) for word in words[13::2])
    assert sets["attack.badnet.target"] == "a red ball"  # not TOML, so --set takes the text
    texts = {"attack.badnet.target", "train.precision"}
    parsed = {name: tomllib.loads(f"value = {text}")["value"] for name, text in sets.items() if name not in texts}
    assert parsed == {
        "attack.badnet.rate": 0.005, "data.size": 16000, "defense.safeclip.threshold": 0.9,
        "train.batch_size": 128, "train.epochs": 8, "train.lr": 0.0015,
    }  # fmt: skip


def test_reports_import_neither_torch_nor_plugins() -> None:
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in ("torch", "torchvision", "open_clip") or name.startswith(
            ("bench.api", "bench.config", "bench.registry", "bench.plugins", "bench.data", "bench.models",
             "bench.attacks", "bench.defenses", "bench.evaluators")
        ):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
import bench.reports.write, bench.reports.terminal, bench.reports.frames
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
