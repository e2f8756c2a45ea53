"""The page in a real Chromium: sorting, links, narrow screens, keyboard, contrast in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "report" / "index.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
AA_TEXT, AA_LARGE = 4.5, 3.0

# Every text node that is shown, with the contrast of its colour to what lies behind it (WCAG 2: relative luminance).
CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
const behind = (node) => {
  if (!node) return [255, 255, 255];
  const own = rgba(getComputedStyle(node).backgroundColor);
  return own[3] === 1 ? own : over(own, behind(node.parentElement));
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || node.closest("script, noscript, title, .skip") || !node.checkVisibility()) continue;
  const style = getComputedStyle(node), svg = node.closest("svg");
  const ground = behind(svg || node), ink = over(rgba(svg ? style.fill : style.color), ground);
  const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a), size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  found.set([ink, ground, large].join(), [text.slice(0, 40), (high + 0.05) / (low + 0.05), large]);
}
return [...found.values()];
"""
WHERE = "const e = document.activeElement; return [e.tagName, e.id, e.textContent.trim().slice(0, 60)];"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium or no chromedriver here (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra `test`)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Any:
    """The golden report, freshly opened; at the end the console must be empty."""
    _show(browser, 1400, "light")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def _show(browser: Any, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get("about:blank")
    browser.get(GOLDEN.as_uri())


def _press(page: Any, key: str) -> None:
    from selenium.webdriver import ActionChains, Keys

    ActionChains(page).send_keys(getattr(Keys, key)).perform()


def _column(page: Any) -> tuple[list[float], str | None]:
    """The second column of the first ASR table: its values from top to bottom, and its sort order."""
    return tuple(
        page.execute_script(
            'const t = document.querySelector("table.asr");'
            "return [[...t.tBodies[0].rows].map((r) => r.cells[1].dataset.sort).filter((v) => v !== undefined).map(Number),"
            ' t.tHead.rows[0].cells[1].getAttribute("aria-sort")];'
        )
    )


def test_a_table_is_sorted_by_click_and_by_keyboard(page: Any) -> None:
    button = page.find_elements("css selector", "table.asr thead button")[1]
    before, _ = _column(page)
    assert len(before) > 1
    button.click()
    assert _column(page) == (sorted(before), "ascending")
    page.execute_script("arguments[0].focus()", button)
    _press(page, "ENTER")
    assert _column(page) == (sorted(before, reverse=True), "descending")
    _press(page, "SPACE")
    assert _column(page) == (sorted(before), "ascending")


def test_a_number_leads_to_the_page_of_its_runs(page: Any) -> None:
    link = page.find_element("css selector", "table.asr td a.value")
    target = link.get_attribute("href").partition("#")[2]
    link.click()
    shown = page.find_element("id", target)
    assert 0 <= page.execute_script("return arguments[0].getBoundingClientRect().top", shown) < 900
    text = page.execute_script("return arguments[0].innerText", shown)
    for part in (
        "Measurements",
        "Training",
        "Poison",
        "Rerun",
        "bench run --data scenes",
        "Specification",
        "Provenance",
    ):
        assert part in text
    assert page.execute_script('return arguments[0].querySelectorAll("svg polyline").length', shown)
    assert page.execute_script('return arguments[0].querySelectorAll("details script").length', shown) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page: Any, scheme: str) -> None:
    _show(page, 1400, scheme)
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((v) => v < 60)")
    assert dark == (scheme == "dark")
    page.execute_script('document.querySelectorAll("details").forEach((d) => { d.open = true; });')
    page.execute_async_script("setTimeout(arguments[0], 200)")  # `toggle` comes later
    found = page.execute_script(CONTRASTS)
    assert len(found) > 10
    assert [each for each in found if each[1] < (AA_LARGE if each[2] else AA_TEXT)] == []


def test_a_narrow_screen_never_scrolls_sideways(page: Any) -> None:
    _show(page, 400, "light")
    width = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth];"
    closed, room = page.execute_script(width)
    page.execute_script('document.querySelectorAll("details").forEach((d) => { d.open = true; });')
    page.execute_async_script("setTimeout(arguments[0], 200)")
    opened, _ = page.execute_script(width)
    assert max(closed, opened) <= room <= 400


def test_everything_is_reached_by_keyboard(page: Any) -> None:
    wanted = page.execute_script(
        'return [...document.querySelectorAll("a[href], button, summary, [tabindex=\\"0\\"]")]'
        ".filter((e) => e.checkVisibility()).length;"
    )
    _press(page, "TAB")
    assert page.execute_script(WHERE)[2] == "Skip to the tables"
    counted = page.execute_script(
        "window.seen = new Set([document.activeElement]);"
        'addEventListener("focusin", (event) => window.seen.add(event.target)); return window.seen.size;'
    )
    assert counted == 1
    from selenium.webdriver import ActionChains, Keys

    ActionChains(page, duration=0).send_keys(Keys.TAB * (wanted - 1)).perform()
    assert page.execute_script("return window.seen.size") == wanted
    summary = page.find_elements("css selector", "details.run > summary")[0]
    page.execute_script("arguments[0].focus()", summary)
    _press(page, "ENTER")
    page.execute_async_script("setTimeout(arguments[0], 200)")
    assert page.execute_script('return arguments[0].parentElement.querySelectorAll(".body").length', summary) == 1
