"""How long a leaderboard takes: `python -m bench.benchmarks.leaderboard`, in a checkout.

The records of a folder are copied, with other seeds, variants of the defenses and settings, and so other keys, until there are
`--runs` of them; then the site is built. Printed: seconds, pages, and where Selenium and Chromium are installed how long each
kind of page takes to open.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import click

from bench.benchmarks import run
from bench.canonical import digest, without_nulls
from bench.leaderboard.site import build
from bench.matrix.store import write_json

SETTINGS, VARIANTS = 2, 20
"""Copies of a run differ in the setting first, then in the variant of its defense, then in the seed."""


@click.command()
@click.option("--of", "folder", type=click.Path(path_type=Path), default="results/reference", show_default=True)
@click.option("--runs", type=int, default=2000, show_default=True)
@click.option("--to", type=click.Path(path_type=Path), help="Keep the site here.")
def main(folder: Path, runs: int, to: Path | None) -> None:
    """Print the time that a site takes to build and to open."""
    with tempfile.TemporaryDirectory() as temporary:
        copied, site = Path(temporary) / "records", to or Path(temporary) / "site"
        _copy(folder, copied, runs)
        wall, cpu = time.perf_counter(), time.process_time()
        built = build([copied], site)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{len(built.board.runs)} runs, {len(built.settings)} settings: {wall:.1f} s, {cpu:.1f} s of one CPU")
        for path in (site / "index.html", site / f"{built.settings[0].id}.html", site / built.methods[0].file):
            opened = _seconds_to_open(path)
            shown = "not opened here" if opened is None else f"opens in {opened:.2f} s"
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {shown}")


def _copy(folder: Path, to: Path, runs: int) -> None:
    to.mkdir()
    shutil.copy(folder / "store.json", to)
    originals = sorted((folder / "runs").glob("*/run.json"))
    if not originals:
        raise click.ClickException(f"{folder}: no records")
    for file, number in islice(_rounds(originals), runs):
        record = json.loads(file.read_text())
        _alter(record["spec"], number)
        _write(file.parent, to, record)


def _rounds(originals: list[Path]) -> Iterator[tuple[Path, int]]:
    """Every original with the number of its copy, over and over."""
    yield from ((file, number) for number in count() for file in originals)


def _alter(spec: dict[str, Any], number: int) -> None:
    setting, variant = number % SETTINGS, number // SETTINGS % VARIANTS
    spec["seed"] += 1000 * (number // SETTINGS // VARIANTS)
    spec["data"]["fingerprint"] = f"{setting:016x}"
    if spec["defense"]["name"] == "clip":
        spec["seed"] += 1000 * VARIANTS * variant
    else:
        spec["defense"]["params"]["variant"] = variant


def _write(original: Path, to: Path, record: dict[str, Any]) -> None:
    """A run under the key that it has now, with its evaluations."""
    key = digest(without_nulls(record["spec"]))
    write_json(to / "runs" / key / "run.json", {**record, "run_key": key})
    for file in (original / "evals").glob("*.json"):
        evaluation = json.loads(file.read_text()) | {"run_key": key}
        write_json(to / "runs" / key / "evals" / file.name, evaluation)


def _seconds_to_open(page: Path) -> float | None:
    """From navigation to the end of the load event in Chromium, the median of five; None without a browser."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not chromium or not driver:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        return sorted(_load(browser, page) for _ in range(5))[2]
    finally:
        browser.quit()


def _load(browser: Any, page: Path) -> float:
    browser.get("about:blank")
    browser.get(page.absolute().as_uri())
    timing = "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime"
    return float(browser.execute_script(timing)) / 1000


if __name__ == "__main__":
    run(main)
