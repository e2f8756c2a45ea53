"""LaTeX tables: their content, and that they compile and fit the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.matrix.store import Store
from bench.reports.latex import escaped
from bench.reports.write import write_report
from bench.suites.library import load, names

from .records_maker import key_for, write_eval
from .suite_maker import ask, make_suites

TABLES = [name for name in names() if name.startswith("table")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_suites(tmp_path / "results")


def test_latex_is_balanced_and_of_one_width(store: Store) -> None:
    for name, path in write_report(store, ["latex"], names()).items():
        text = path.read_text(encoding="utf-8")
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}"), name
        assert text.count(r"\begin{") == text.count(r"\end{")
        for columns, body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
            for line in (line for line in body.splitlines() if line.endswith(r" \\")):
                spans = [int(width) for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans) == len(columns)
        assert not re.search(r"(?<!\\)[%_#](?!.*booktabs)", re.sub(r"\\label\{.*\}", "", text).split("\n", 1)[1])


def test_latex_has_the_values_of_the_table(store: Store) -> None:
    text = write_report(store, ["latex"])["table1.tex"].read_text(encoding="utf-8")
    assert re.search(r"measured & .*\\textbf\{11\.5\}.*\n\s*&\s*&.*\\scriptsize \$\\pm\$ 2\.1", text)
    assert r"\usepackage{booktabs}" in text
    assert load("table1").title in text
    assert text.count(r"\cmidrule(lr){3-7}") == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of a_b & c#1 $x$ {y}", r"50\% of a\_b \& c\#1 \$x\$ \{y\}"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("−1 ± 2 <3>", r"$-$1 $\pm$ 2 \textless{}3\textgreater{}"),
        ("two\nlines", "two lines"),
        ("`bench run --out a_b` runs it", r"\texttt{bench run --out a\_b} runs it"),
    ],
)
def test_escaping(text: str, expected: str) -> None:
    assert escaped(text) == expected


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize(
    ("seeds", "sizes"), [((0,), ()), ((0, 1), ()), ((0, 1), (10000, 20000))], ids=["an interval", "a deviation", "n differs"]
)
def test_every_table_compiles_and_fits_the_page(
    store: Store, tmp_path: Path, seeds: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    for seed, n in enumerate(sizes):
        shares = {("asr", "all"): 0.9 - 0.4 * seed, ("asr_floor", "all"): 0.05}
        write_eval(store, key_for("badnet", "clip", seed), "asr", shares, n=n)
    for name in TABLES:
        ask(
            store,
            name,
            {condition.id: [key_for("badnet", "clip", seed) for seed in seeds] for condition in load(name).conditions()},
            {},
        )
    paths = write_report(store, ["latex"], TABLES)
    assert sorted(paths) == sorted(f"{name}.tex" for name in TABLES)
    body = "\n".join(rf"\input{{{path}}}\clearpage" for path in paths.values())
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.findall(r"(?:Overfull .*|.*too large for page.*|.*multiply-defined.*)", done.stdout) == []
