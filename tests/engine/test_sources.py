"""Code that changes is code of its own: in keys, and in what is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench import sources
from bench.models import factory
from bench.registry import defenses
from bench.testing import pin

from .small import small_matrix

Edit = Callable[[str, str, str], None]


def _forget() -> None:
    for cached in (sources._source, sources.digest, sources.closure, sources.engine_modules):
        cached.cache_clear()


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Read a module as if some of its text were another."""

    def replace(module: str, old: str, new: str) -> None:
        read = sources._source.__wrapped__
        assert read(module).count(old) >= 1
        monkeypatch.setattr(sources, "_source", lambda name: read(name).replace(old, new) if name == module else read(name))
        _forget_others()

    def _forget_others() -> None:
        for cached in (sources.digest, sources.closure, sources.engine_modules):
            cached.cache_clear()

    yield replace
    monkeypatch.undo()
    _forget()


def _key(defense: str) -> str:
    return next(cell.key for cell in small_matrix(defenses=[defense]).cells if cell.spec.defense.name == defense)


def test_the_code_is_the_pinned_one() -> None:
    now = pin.current()
    assert pin.unversioned(sources.pinned(), now) == [], "raise their versions, then `python -m bench.testing.pin`"
    assert now == sources.pinned(), "`python -m bench.testing.pin` pins what is new"
    assert sources.engine() == sources.ENGINE
    assert all("source" not in entry.identity() for entry in defenses if entry.origin.startswith("built-in"))


def test_a_defense_whose_loss_is_changed_is_another(edit: Edit) -> None:
    before = _key("safeclip"), _key("clip")
    edit("bench.defenses.unimodal", "return nn_contrastive_loss(", "return 3 * nn_contrastive_loss(")
    assert pin.unversioned(sources.pinned(), pin.current()) == ["defense nnclr_warmup", "defense safeclip"]
    assert _key("safeclip") != before[0]
    assert _key("clip") == before[1]


def test_what_a_method_uses_belongs_to_it(edit: Edit) -> None:
    edit("bench.defenses.losses", "def ", "def other_")
    found = pin.unversioned(sources.pinned(), pin.current())
    assert {"defense clip", "defense safeclip", "defense cleanclip", "defense deepknn"} <= set(found)
    assert "engine" not in found


@pytest.mark.parametrize(
    "module",
    [
        "bench.training.trainer",
        "bench.data.augment",
        "bench.data.eda",
        "bench.models.small_resnet",
        "bench.matrix.cell",
        "bench.matrix.workspace",
    ],
)
def test_the_engine_is_identity(edit: Edit, module: str) -> None:
    before = _key("clip")
    edit(module, "def ", "def other_")
    assert pin.unversioned(sources.pinned(), pin.current()) == ["engine"]
    assert sources.engine().startswith(f"{sources.ENGINE}+")
    assert _key("clip") != before


def test_what_evaluators_are_shown_is_theirs(edit: Edit) -> None:
    before = {each.evaluator.name: each.key for cell in small_matrix().cells for each in cell.evaluations}
    edit("bench.matrix.evaluation", "def ", "def other_")
    found = pin.unversioned(sources.pinned(), pin.current())
    assert found
    assert {each.partition(" ")[0] for each in found} == {"evaluator"}
    after = {each.evaluator.name: each.key for cell in small_matrix().cells for each in cell.evaluations}
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_the_configuration_of_a_model_is_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _key("clip")
    config = factory.config
    monkeypatch.setattr(factory, "config", lambda name: {**config(name), "embed_dim": config(name)["embed_dim"] + 1})
    assert _key("clip") != before


def test_words_about_code_are_no_code() -> None:
    bare = "class A:\n    x = 1\n    def f(self):\n        return '# no comment'\n"
    told = (
        '"""What."""\n\nclass A:  # a class\n    """Long\n\n    text."""\n    x = 1\n    "of x"\n\n    # f\n'
        "    def f(self):\n        'doc'\n        return '# no comment'\n"
    )
    assert sources.code(told) == sources.code(bare) == bare.rstrip()
    assert sources.code(bare.replace("1", "2")) != sources.code(bare)


def test_what_is_imported(edit: Edit) -> None:
    edit("bench.errors", "import difflib", "from . import keys\nfrom .models import factory as made\nimport bench.console")
    assert sources.closure(("bench.errors",), ("bench.keys", "bench.console", "bench.models.word_tokenizer")) == (
        "bench.console",
        "bench.errors",
        "bench.keys",
    )
    through = sources.closure(("bench.errors",), ("bench.models",))
    assert {"bench.errors", "bench.models", "bench.models.factory", "bench.models.word_tokenizer"} <= set(through)
    assert "bench.models.frozen" not in through
