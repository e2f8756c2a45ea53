"""The pages in a real Chromium: sorting, filter, narrow screens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.leaderboard.site import Site, build
from tests.reports.test_browser import browser  # noqa: F401

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Site]:
    to = tmp_path_factory.mktemp("site")
    return to, build([REFERENCE], to)


def _open(page: Any, path: Path, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.get(path.as_uri())


def _shown(page: Any, table: str, column: int) -> list[str]:
    script = (
        f"return [...document.querySelector('[data-filtered=\"{table}\"]').tBodies[0].rows]"
        f".filter((row) => row.checkVisibility()).map((row) => row.cells[{column}].firstChild.textContent.trim())"
    )
    return list(page.execute_script(script))


def test_defenses_are_sorted_and_records_filtered(browser: Any, site: tuple[Path, Site]) -> None:  # noqa: F811
    to, found = site
    _open(browser, to / f"{found.settings[0].id}.html", 1400)
    assert browser.get_log("browser") == []
    ranked = _shown(browser, "ranking", 0)
    assert ranked[:3] == ["1", "2", "3"]
    button = browser.find_elements("css selector", "table.ranking thead button")[4]  # zero-shot
    for down in (False, True):
        button.click()
        values = [float(each) for each in _shown(browser, "ranking", 4)]
        assert values == sorted(values, reverse=down)
    assert _shown(browser, "ranking", 0) != ranked
    every = _shown(browser, "records", 1)
    box = browser.find_element("css selector", '[data-filters="records"] input')
    box.send_keys("WANET roclip")
    assert _shown(browser, "records", 1) == ["wanet 1%"]
    for _ in range(len("WANET roclip")):
        box.send_keys("\b")
    assert _shown(browser, "records", 1) == every


def test_no_page_scrolls_sideways(browser: Any, site: tuple[Path, Site]) -> None:  # noqa: F811
    to, _ = site
    for path in sorted(to.glob("*.html")):
        _open(browser, path, 400)
        browser.execute_script('document.querySelectorAll("details").forEach((each) => { each.open = true; })')
        width, room = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
        assert width <= room <= 400, path.name
