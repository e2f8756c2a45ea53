from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import plugins
from bench.config import Settings
from bench.errors import UserError
from bench.matrix.expand import MatrixRequest, expand
from bench.registry import attacks, datasets

from .small import SMALL

plugins.load()


def test_recipe_then_options() -> None:
    settings = Settings("scenes")
    assert (settings.model.name, settings.train().epochs, settings.train().batch_size) == ("scenes-small", 8, 64)
    settings = Settings("scenes", ["train.epochs=2", "train.lr=1e-3", "train.epochs=3", " model.name = RN50"], model="small-64")
    assert settings.train().epochs == 3  # the last one counts
    assert settings.train().lr == 0.001
    assert settings.train().batch_size == 64
    assert settings.model.name == "RN50"
    assert Settings("scenes", model="small-64").model.name == "small-64"
    assert Settings("mscoco").train().epochs == 48
    assert Settings("a data set without a recipe").model.name == "RN50"


def test_precision_of_the_command_line_beats_the_recipe() -> None:
    settings = Settings("scenes", ["train.precision=bf16"])
    assert settings.train("fp32").precision == "fp32"
    assert settings.train().precision == "bf16"


@pytest.mark.parametrize(
    ("model", "option", "expected"),
    [
        ("small-64", "train.epochs=1", (0.999, 1e-8)),
        ("scenes-small", "train.epochs=1", (0.999, 1e-8)),
        ("scenes-vit-8", "train.epochs=1", (0.98, 1e-6)),
        ("scenes-vit-8", "train.beta2=0.9", (0.9, 1e-6)),
    ],
)
def test_the_optimisers_constants_follow_the_model_and_stand_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, option: str, expected: tuple[float, float]
) -> None:
    from tests.data.coco_maker import make_coco

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    root = make_coco(tmp_path)
    (cell,) = expand(
        MatrixRequest("mscoco", ["none"], ["clip"], ["zero_shot"], data_root=root, model=model, options=[option])
    ).cells
    assert (cell.spec.train.beta2, cell.spec.train.eps) == expected


def _badnet(*options: str) -> dict[str, object]:
    return Settings("scenes", options).plugin("attack", attacks["badnet"], attacks).params


def test_a_plugins_own_option_beats_the_shared_one_in_any_order() -> None:
    assert _badnet()["rate"] == 0.01
    assert _badnet("attack.rate=0.02")["rate"] == 0.02
    assert _badnet("attack.rate=0.02", "attack.badnet.rate=0.03")["rate"] == 0.03
    assert _badnet("attack.badnet.rate=0.03", "attack.rate=0.02")["rate"] == 0.03
    assert _badnet("attack.tdpa.rate=0.5", "attack.images=4")["rate"] == 0.01
    assert "images" not in _badnet("attack.images=4")


@pytest.mark.parametrize(
    ("text", "value"),
    [("ring", "ring"), ("'ring'", "ring"), ('"3"', "3"), ("", ""), ("a b=c", "a b=c"), ("red, green", "red, green")],
)
def test_bare_words_are_text(text: str, value: str) -> None:
    assert _badnet(f"attack.target={text}")["target"] == value


def test_types() -> None:
    params = _badnet("attack.patch=4", "attack.max_probes=1_000", "attack.rate=5e-4")
    assert (params["patch"], params["max_probes"], params["rate"]) == (4.0, 1000, 0.0005)
    data = Settings("scenes", ["data.train=256"]).data(datasets["scenes"].plugin)
    assert data.train == 256  # type: ignore[attr-defined]


def _expand(options: Sequence[str], chosen: Sequence[str] = ("badnet",)) -> None:
    expand(MatrixRequest("scenes", chosen, ["clip"], ["zero_shot"], options=(*SMALL, *options)))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train=3", "section.option=value"),
        ("train.epochs", "section.option=value"),
        ("epochs=3", "section.option=value"),
        ("train.=3", "section.option=value"),
        (".epochs=3", "section.option=value"),
        ("attack..rate=3", "section.option=value"),
        ("trian.epochs=3", "unknown section 'trian'; did you mean 'train'"),
        ("zzz.epochs=3", "unknown section 'zzz'; known: attack, data"),
        ("train.epoch=3", "train.epoch: unknown option 'epoch'; did you mean 'epochs'"),
        ("model.nam=3", "model.nam: unknown option 'nam'; did you mean 'name'"),
        ("data.trian=256", "data.trian: unknown option 'trian'; did you mean 'train'"),
        ("attack.patc=3", "attack.patc: unknown option 'patc'; did you mean 'patch'"),
        ("attack.badnet.patc=3", "attack.badnet.patc: unknown option 'patc'; did you mean 'patch'"),
        ("attack.bagnet.patch=3", "unknown option 'bagnet'; did you mean 'badnet'"),
        ("attack.images=3", "unknown option 'images'"),
        ("defense.zzz=3", "defense.zzz: unknown option 'zzz'"),
        ("defense.clip.zzz=3", "defense.clip.zzz: unknown option 'zzz'"),
        ("evaluator.zero_shot.zzz=3", "evaluator.zero_shot.zzz: unknown option 'zzz'"),
        ("train.epochs.x=1", "train.epochs.x: 'epochs' is a value"),
        ("attack.rate.x=1", "attack.rate.x: 'rate' is a value"),
        ("attack.badnet.rate.x=1", "attack.badnet.rate"),
        ("attack.badnet=1", "attack.badnet: append one of its options: "),
        ("train.epochs=many", "train.epochs: .*integer.*'many'"),
        ("train.epochs=1.5", "train.epochs: .*integer.*1.5"),
        ("train.epochs=0", "train.epochs: .*greater than or equal to 1.*0"),
        ("train.epochs=[1, 2]", "train.epochs: "),
        ("train.lr=", "train.lr: .*number.*''"),
        ("train.lr=nan", "train.lr: .*finite.*nan"),
        ("train.lr=inf", "train.lr: .*finite.*inf"),
        ("train.precision=fp8", "train.precision: .*'fp32', 'bf16' or 'fp16'.*'fp8'"),
        ("attack.badnet.rate=2", "attack.badnet.rate: .*less than 1.*2"),
        ("attack.rate=nan", "attack.rate: .*finite.*nan"),
        ("attack.target=3", "attack.badnet.target: .*string.*3"),
        ("attack.place=middle", "attack.badnet.place: .*'middle'"),
        ("data.train=10", "data.train: .*64.*10"),
    ],
)
def test_refused(option: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^--set .*{words}") as caught:
        _expand([option])
    assert "\n" not in str(caught.value)


def test_options_of_an_attack_that_is_not_in_the_matrix() -> None:
    _expand(["attack.tdpa.images=3"])  # so that a command can be repeated with fewer attacks
    with pytest.raises(UserError, match=r"attack.tdpa.imges: unknown option 'imges'; did you mean 'images'"):
        _expand(["attack.tdpa.imges=3"])
    with pytest.raises(UserError, match=r"attack.tdpa.images: .*integer.*'few'"):
        _expand(["attack.tdpa.images=few"])
    with pytest.raises(UserError, match=r"attack.tdpa: append one of its options"):
        _expand(["attack.tdpa=3"])
    with pytest.raises(UserError, match=r"attack.images: unknown option 'images'"):
        _expand(["attack.images=3"])


@pytest.mark.parametrize("kind", ["attack", "defense", "evaluator"])
def test_unknown_names_hide_behind_nothing(kind: str) -> None:
    names = {"attack": ["badnet"], "defense": ["clip"], "evaluator": ["asr"]}
    for chosen in (["badnets"], ["all", "badnets"]):
        wanted = {**names, kind: chosen}
        with pytest.raises(UserError, match=f"unknown {kind} 'badnets'"):
            expand(MatrixRequest("scenes", wanted["attack"], wanted["defense"], wanted["evaluator"], options=SMALL))
