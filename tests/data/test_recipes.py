import tomllib
from importlib.resources import files

import pytest

from bench import plugins
from bench.config import Settings
from bench.models import factory
from bench.registry import attacks, datasets, defenses
from bench.training.optimizer import published

plugins.load()
NAMES = sorted(
    file.name.removesuffix(".toml") for file in (files("bench") / "recipes").iterdir() if file.name != "default.toml"
)
PUBLISHED = {"cc3m": 512, "cc1m": 512, "cc100k": 512, "mscoco": 256, "visual_genome": 256}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_recipe_is_one(name: str) -> None:
    settings = Settings(name)
    assert name in datasets.names()
    factory.config(settings.model.name)
    settings.train()
    settings.data(datasets[name].plugin)
    for section, registry in (("attack", attacks), ("defense", defenses)):
        for entry in registry:
            settings.plugin(section, entry, registry)


def test_small_photographs_have_one_recipe() -> None:
    texts = [(files("bench") / "recipes" / f"{name}.toml").read_text() for name in ("imagefolder", "cifar10")]
    assert tomllib.loads(texts[0]) == tomllib.loads(texts[1])


@pytest.mark.parametrize(("name", "batch_size"), PUBLISHED.items())
def test_published_hyper_parameters(name: str, batch_size: int) -> None:
    settings = Settings(name)
    train = settings.train()
    assert (settings.model.name, train.epochs, train.batch_size, train.lr) == ("RN50", 48, batch_size, 5e-4)
    assert published("RN50") == {"beta2": train.beta2, "eps": train.eps} == {"beta2": 0.999, "eps": 1e-8}
    assert (train.strong_crop, train.strong_colour, train.eda_alpha) == (0.08, 1, 0.1)
    rates = {each: settings.plugin("attack", attacks[each], attacks).params["rate"] for each in ("tdpa", "badnet", "blended")}
    assert rates == {"tdpa": 0.0005, "badnet": 0.0005, "blended": 0.0015}
    safeclip = settings.plugin("defense", defenses["safeclip"], defenses).params
    assert safeclip["low_lr"] * train.lr == pytest.approx(5e-6)
    assert (safeclip["unimodal_epochs"], safeclip["threshold"], safeclip["growth"]) == (5, 0.9, 0.01)
    roclip = settings.plugin("defense", defenses["roclip"], defenses).params
    assert (roclip["every"], roclip["epochs"] * train.epochs, roclip["lr"] * train.lr) == (2, 24, pytest.approx(5e-5))
