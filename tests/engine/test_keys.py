import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from bench import keys, sources
from bench.config import PluginSpec, RunSpec, TrainSpec
from bench.matrix.expand import MatrixRequest, expand
from bench.registry import defenses

from .small import SMALL, small_matrix

OTHER = {str: lambda v: v + "x", int: lambda v: v + 1, float: lambda v: v / 2 + 0.001, bool: lambda v: not v}


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return small_matrix().cells[-1].spec


def test_canonical() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"ü": "x", "c": 1e-6}}
    assert keys.canonical(value) == '{"a":{"c":1e-06,"\\u00fc":"x"},"b":[1,2.5,null,true]}'
    assert json.loads(keys.canonical(value)) == value
    assert keys.canonical(dict(reversed(value.items()))) == keys.canonical(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_canonical_has_no_word_for_what_json_cannot_say(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        keys.canonical({"lr": number})


def test_digest_is_a_sha256() -> None:
    assert keys.digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()[:16]


def test_seeds() -> None:
    expected = int(hashlib.sha256(b'["order",0]').hexdigest()[:16], 16) // 2
    assert keys.seed_of("order", 0) == expected
    seeds = {keys.seed_of(*parts) for parts in [("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1"), (("a", 1),), ("a", 1, "")]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    draws = keys.generator("a", 1).random(3)
    assert np.array_equal(draws, keys.generator("a", 1).random(3))
    assert not np.array_equal(draws, keys.generator("a", 2).random(3))


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        elif value is not None:
            yield (*path, name)


def _changed(spec: RunSpec, path: tuple[str, ...]) -> RunSpec:
    tree = spec.model_dump()
    branch = tree
    for name in path[:-1]:
        branch = branch[name]
    value = branch[path[-1]]
    choices = get_args(TrainSpec.model_fields[path[1]].annotation) if path[0] == "train" else ()
    branch[path[-1]] = next((each for each in choices if each != value), None) or OTHER[type(value)](value)
    return RunSpec.model_validate(tree)


def test_every_field_is_identity(spec: RunSpec) -> None:
    paths = list(_leaves(spec.model_dump()))
    assert {path[0] for path in paths} == {"engine", "data", "attack", "defense", "model", "train", "seed"}
    assert len(paths) > 25
    made = {keys.run_key(_changed(spec, path)) for path in paths}
    made |= {keys.run_key(spec), keys.run_key(spec.model_copy(update={"attack": None}))}
    sourced = spec.defense.model_copy(update={"source": "0" * 64})
    made.add(keys.run_key(spec.model_copy(update={"defense": sourced})))
    assert len(made) == len(paths) + 3
    assert keys.run_key(RunSpec.model_validate_json(spec.model_dump_json())) == keys.run_key(spec)


def test_engine_is_identity(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small_matrix().cells[-1].key
    assert before == keys.run_key(spec)
    monkeypatch.setattr(sources, "ENGINE", "next")
    assert small_matrix().cells[-1].key != before


def test_evaluations_have_keys_of_their_own(spec: RunSpec) -> None:
    evaluator = PluginSpec(name="asr", version="1", params={"k": 1})
    clean = spec.model_copy(update={"attack": None})
    updates: list[dict[str, Any]] = [{"name": "b"}, {"version": "2"}, {"params": {}}]
    variants = [
        (spec, evaluator, clean),
        (spec, evaluator, None),
        (clean, evaluator, clean),
        (spec, evaluator, _changed(clean, ("seed",))),
        *((spec, evaluator.model_copy(update=update), clean) for update in updates),
    ]
    assert len({keys.eval_key(*variant) for variant in variants}) == len(variants)


def test_downstream_tasks_are_identity_of_evaluations_only(spec: RunSpec) -> None:
    evaluator = PluginSpec(name="zero_shot", version="1", params={})
    without = {"run": keys.run_key(spec), "evaluator": {"name": "zero_shot", "version": "1", "params": {}}, "clean": None}
    sets: list[dict[str, str]] = [{"dtd": "a"}, {"dtd": "b"}, {"cifar10": "a"}, {"cifar10": "a", "dtd": "a"}]
    assert keys.eval_key(spec, evaluator, None) == keys.eval_key(spec, evaluator, None, {}) == keys.digest(without)
    made = {keys.eval_key(spec, evaluator, None, tasks) for tasks in sets}
    assert len(made | {keys.digest(without)}) == 5
    assert keys.eval_key(spec, evaluator, None, {"dtd": "a", "cifar10": "a"}) in made


def test_a_downstream_root_changes_no_run_and_only_evaluations_on_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.data.downstream_maker import make

    def cells(root: Path | None) -> tuple[list[str], list[str], dict[str, list[str]]]:
        request = MatrixRequest("scenes", ["none", "badnet"], ["clip"], downstream_root=root, options=SMALL)
        found = expand(request).cells
        evaluations = [each for cell in found for each in cell.evaluations]
        by_name = {
            name: [e.key for e in evaluations if e.evaluator.name == name] for name in ("asr", "zero_shot", "linear_probe")
        }
        plans = [expand(request).workspace.poison(cell.spec)[1].hash() for cell in found if cell.spec.attack]
        return [cell.key for cell in found], plans, by_name

    runs, plans, before = cells(None)
    again, plans_again, after = cells(make(tmp_path, ["dtd"], monkeypatch))
    assert (runs, plans) == (again, plans_again)
    assert before["asr"] == after["asr"]
    assert not set(before["zero_shot"]) & set(after["zero_shot"])
    assert not set(before["linear_probe"]) & set(after["linear_probe"])


def test_seeds_do_not_depend_on_the_defense_and_depend_on_what_they_should(spec: RunSpec) -> None:
    parts = {"poison": keys.poison_parts, "initial": keys.initial_parts, "order": lambda spec: keys.order_parts(spec, "poison")}
    depends = {"poison": {"data", "attack", "seed"}, "initial": {"model", "seed"}, "order": {"seed"}}
    for path in _leaves(spec.model_dump()):
        if path[0] == "data" and path[1] != "fingerprint":
            continue  # whatever of the data matters is in its fingerprint
        other = _changed(spec, path)
        for purpose, of in parts.items():
            same = keys.seed_of(*of(spec)) == keys.seed_of(*of(other))
            assert same == (path[0] not in depends[purpose]), (purpose, path)
    assert len({keys.seed_of(*of(spec)) for of in parts.values()}) == 3
    assert len({keys.seed_of(*keys.order_parts(spec, digest)) for digest in (None, "poison", "other")}) == 3


def test_place_and_cache_are_not_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.data.coco_maker import make_coco

    found = []
    for name in ("one", "two/deeper"):
        root = make_coco(tmp_path / name)
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / name / "cache"))
        request = MatrixRequest(
            "mscoco", ["badnet"], ["clip"], ["zero_shot"], data_root=root, model="small-64",
            options=("attack.rate=0.1", "attack.min_captions=1"),
        )  # fmt: skip
        found.append([(cell.key, [each.key for each in cell.evaluations]) for cell in expand(request).cells])
    assert found[0] == found[1]


_CRAFTED = "attack.label_consistent.epsilon=16"


def _key(attack: str, defense: str) -> str:
    cells = small_matrix(_CRAFTED, attacks=[attack], defenses=[defense]).cells
    (cell,) = [cell for cell in cells if cell.spec.attack and cell.spec.defense.name == defense]
    return cell.key


@pytest.mark.parametrize(
    ("attack", "defense", "builds"),
    [
        ("badnet", "cleanclip", True),
        ("badnet", "deepknn", True),
        ("badnet", "clip_filter", True),
        ("label_consistent", "safeclip", True),
        ("label_consistent", "cleanclip", True),
        ("badnet", "safeclip", False),
    ],
)
def test_what_a_cell_builds_on_is_identity(monkeypatch: pytest.MonkeyPatch, attack: str, defense: str, builds: bool) -> None:
    monkeypatch.setattr(defenses[defense].plugin, "version", "its own")
    before = _key(attack, defense)
    monkeypatch.setattr(defenses["clip"].plugin, "version", "next")
    assert (_key(attack, defense) != before) == builds


def test_a_measurement_against_the_clean_model_is_another_when_that_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[str, dict[str, str]]:
        cells = small_matrix(defenses=["safeclip"], evaluators=["zero_shot", "asr"]).cells
        (cell,) = [cell for cell in cells if cell.spec.defense.name == "safeclip"]
        return cell.key, {each.evaluator.name: each.key for each in cell.evaluations}

    run, measured = found()
    monkeypatch.setattr(defenses["clip"].plugin, "version", "next")
    run_again, measured_again = found()
    assert run_again == run
    assert measured_again["zero_shot"] == measured["zero_shot"]
    assert measured_again["asr"] != measured["asr"]


def test_the_poison_does_not_depend_on_the_surrogate_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts() -> list[Any]:
        cells = small_matrix(_CRAFTED, attacks=["label_consistent"]).cells
        return [keys.poison_parts(cell.spec) for cell in cells if cell.spec.attack]

    before = parts()
    monkeypatch.setattr(defenses["clip"].plugin, "version", "next")
    assert before == parts()
