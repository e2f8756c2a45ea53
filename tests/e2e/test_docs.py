"""The pages on plugins and suites, followed literally: files are written, commands run, and what a page shows is what comes."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.cli import main
from bench.registry import KINDS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(path.name for path in (ROOT / "docs").glob("adding-*.md"))


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block, in order."""
    yield from re.findall(
        r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def run(line: str, capfd: pytest.CaptureFixture[str]) -> str:
    program, *arguments = shlex.split(line)
    if program == "python":
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    assert program == "bench"
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    out, err = capfd.readouterr()
    assert not exit_.value.code, out + err
    return out


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(
    page: str, registries: None, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output, seen = "", set()
    for language, text in blocks(page):
        seen.add(language)
        if language in ("python", "toml"):
            name = text.partition("\n")[0].removeprefix("# ")
            Path(name).write_text(text, encoding="utf-8")
        elif language == "sh":
            output = "".join(run(line, capfd) for line in text.splitlines())
        else:
            words = " ".join(output.split())
            assert [line for line in text.splitlines() if " ".join(line.split()) not in words] == []
    assert seen in ({"python", "sh", "text"}, {"toml", "sh", "text"})


def test_every_link_of_the_readme_and_the_pages_leads_to_a_file() -> None:
    for page in (README, *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_defense_of_the_readme_passes_its_checks(
    registries: None, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    Path("smooth.py").write_text(source, encoding="utf-8")
    assert ", 0 failed" in run("bench check smooth.py", capfd)


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "methods.md"], ids=lambda path: path.name)
def test_every_method_is_listed(page: Path, registries: None) -> None:
    named = set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8")))
    methods = {name for kind in ("attacks", "defenses", "evaluators") for name in KINDS[kind].names()}
    assert methods - {"control_size", "control_steps"} - named == set()


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_picture_shows_the_committed_records() -> None:
    picture = runpy.run_path(str(ROOT / "docs" / "picture.py"))
    assert _description(picture["drawn"]()) == _description(picture["PICTURE"].read_bytes())


def _description(svg: bytes) -> str:
    return ElementTree.fromstring(svg).findtext(".//{http://purl.org/dc/elements/1.1/}description", "").strip()
