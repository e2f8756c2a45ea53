import re
from pathlib import Path

import pytest

from bench import plugins, recipe
from bench.config import Settings
from bench.models import factory, pretrained
from bench.registry import attacks, datasets, defenses, evaluators
from bench.training.optimizer import clip_defaults

plugins.load()
RULES = ("published", "small")
ON = dict.fromkeys(RULES, "scenes") | {"finetune": "cc500k"}
"""The data sets of recipes that are not called after one."""
PUBLISHED = {"cc3m": 512, "cc1m": 512, "cc100k": 512, "mscoco": 256, "visual_genome": 256}
SMALL = ("cifar10", "cifar100", "fashion_mnist", "food101", "imagefolder")


@pytest.mark.parametrize("name", recipe.names())
def test_every_option_of_a_recipe_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "download_pretrained", lambda tag: __file__)
    data = ON.get(name, name)
    settings = Settings(data, recipe=recipe.load(name))
    assert data in datasets.names()
    factory.config(settings.model.name)
    settings.train()
    settings.data(datasets[data].plugin)
    for section, registry in (("attack", attacks), ("defense", defenses), ("evaluator", evaluators)):
        settings.check_options(section, list(registry), registry)
        for entry in registry:
            settings.plugin(section, entry, registry)
    assert recipe.summary(name)[-1] in ".:"


@pytest.mark.parametrize("name", SMALL)
def test_small_sets_follow_one_rule(name: str) -> None:
    rule, own = Settings("any", recipe=recipe.load("small")), Settings(name)
    for entry in defenses:
        assert own.plugin("defense", entry, defenses) == rule.plugin("defense", entry, defenses)
    for entry in attacks:
        if entry.plugin.name != "label_consistent":
            assert own.plugin("attack", entry, attacks) == rule.plugin("attack", entry, attacks)
    assert own.train().model_copy(update={"epochs": rule.train().epochs}) == rule.train()


def test_the_small_rule() -> None:
    settings = Settings("any", recipe=recipe.load("small"))
    train, safeclip = settings.train(), settings.plugin("defense", defenses["safeclip"], defenses).params
    assert (settings.model.name, train.epochs, train.batch_size, train.lr) == ("scenes-small", 24, 64, 1.4e-3)
    assert (train.precision, train.strong_crop, train.strong_colour, train.warmup_epochs / 24) == ("bf16", 0.2, 1, 1 / 48)
    changed = {"low_lr": 0.1, "until_auc": 0.75, "pool": 4096, "largest": 0.85}
    assert safeclip == defenses["safeclip"].plugin.Params(**changed).model_dump()
    assert settings.plugin("defense", defenses["roclip"], defenses).params == defenses["roclip"].plugin.Params().model_dump()
    rates = {entry.plugin.name: settings.plugin("attack", entry, attacks).params["rate"] for entry in attacks}
    assert {rates[name] for name in ("badnet", "blended", "wanet", "sig", "htba", "adaptive_unimodal")} == {0.01}
    tdpa = settings.plugin("attack", attacks["tdpa"], attacks).params
    assert (tdpa["images"], tdpa["rate"]) == (16, 0.01)


@pytest.mark.parametrize(("name", "batch_size"), PUBLISHED.items())
def test_published_hyper_parameters(name: str, batch_size: int) -> None:
    settings = Settings(name)
    train = settings.train()
    assert (settings.model.name, train.epochs, train.batch_size, train.lr) == ("RN50", 48, batch_size, 5e-4)
    assert clip_defaults("RN50") == {"beta2": train.beta2, "eps": train.eps} == {"beta2": 0.999, "eps": 1e-8}
    assert (train.strong_crop, train.strong_colour, train.eda_alpha) == (0.08, 1, 0.1)
    rates = {each: settings.plugin("attack", attacks[each], attacks).params["rate"] for each in ("tdpa", "badnet", "blended")}
    assert rates == {"tdpa": 0.0005, "badnet": 0.0005, "blended": 0.0015}
    safeclip = settings.plugin("defense", defenses["safeclip"], defenses).params
    assert safeclip["low_lr"] * train.lr == pytest.approx(5e-6)
    assert (48 * safeclip["unimodal"], safeclip["threshold"], safeclip["growth"] / 48) == (5, 0.9, 0.01)
    roclip = settings.plugin("defense", defenses["roclip"], defenses).params
    assert (roclip["every"], roclip["epochs"] * train.epochs, roclip["lr"] * train.lr) == (2, 24, pytest.approx(5e-5))


def test_the_recipe_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    settings = Settings("any", recipe=recipe.load(str(tmp_path / "mine.toml")))
    for section, registry in (("attack", attacks), ("defense", defenses)):
        settings.check_options(section, list(registry), registry)
    found = [settings.plugin("attack", attacks[name], attacks).params for name in ("badnet", "sig", "tdpa")]
    assert [params["rate"] for params in found] == [0.005] * 3
    assert (found[0]["patch"], settings.train().epochs, settings.model.name) == (40, 12, "scenes-small")


def test_the_rule_of_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """500,000 pairs with 1,500 poisons, ten epochs at 1e-6, 10,000 steps of warm-up (Liang et al. 2024)."""
    monkeypatch.setattr(pretrained, "download_pretrained", lambda tag: __file__)
    settings = Settings("cc500k", recipe=recipe.load("finetune"))
    train, pairs = settings.train(), vars(datasets["cc500k"].plugin)["size"]
    assert (settings.model.name, settings.model.weights is None) == ("RN50-quickgelu", False)
    assert (pairs, train.epochs, train.batch_size, train.lr) == (500_000, 10, 128, 1e-6)
    assert round(train.warmup_epochs * pairs / train.batch_size) == 10_000
    assert pairs * settings.plugin("attack", attacks["badnet"], attacks).params["rate"] == 1_500
    tuned = {
        name: settings.plugin("defense", defenses[name], defenses).params for name in ("cleanclip", "cleanclip_supervised")
    }
    assert [each["clean"] * pairs for each in tuned.values()] == [100_000, 100_000]
    assert [each["lr"] * train.lr for each in tuned.values()] == pytest.approx([1e-5, 1e-4])
