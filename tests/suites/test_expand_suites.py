"""Suites on the embedded data set: their runs, parameters and shared cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bench import plugins
from bench.config import RunSpec
from bench.errors import UserError
from bench.matrix.expand import MatrixRequest, expand
from bench.matrix.suites import SuitePlan, SuiteRequest, expand_suites, rescaled
from bench.suites.library import load, resolve

SIZES = ("data.train=256", "data.holdout=64", "data.test=64", "data.probe_train=64")


def plan_of(*suites: str, seeds: Sequence[int] = (0,), options: Sequence[str] = SIZES, **more: Any) -> SuitePlan:
    plugins.load()
    return expand_suites(SuiteRequest(resolve(suites), **{"data": "scenes", "seeds": seeds, "options": options, **more}))


def specs_of(plan: SuitePlan) -> dict[str, RunSpec]:
    """The first run of each condition."""
    cells = {cell.key: cell.spec for matrix in plan.matrices for cell in matrix.cells}
    return {condition: cells[runs[0]] for each in plan.suites for condition, runs in each.runs.items()}


def params(plan: SuitePlan, condition: str) -> dict[str, Any]:
    return specs_of(plan)[condition].defense.params


def test_every_suite_on_scenes() -> None:
    plan = plan_of("all")
    known = set(plugins_of("defenses"))
    for each in plan.suites:
        assert set(each.runs) | set(each.reasons) == {condition.id for condition in each.suite.conditions()}
        assert all(reason.startswith("the defense") for reason in each.reasons.values()), each.reasons
        assert {condition.split(" | ")[2] for condition in each.reasons} & known == set()
    assert [request.suite.name for request in plan.requests if request.suite] == [each.suite.name for each in plan.suites]
    keys = [cell.key for matrix in plan.matrices for cell in matrix.cells]
    assert len(keys) == len(set(keys))
    asked = {cell.run_key for request in plan.requests for cell in request.cells}
    assert asked == set(keys)


def plugins_of(kind: str) -> list[str]:
    from bench.registry import KINDS

    return KINDS[kind].names()


def test_cells_are_those_of_a_plain_run() -> None:
    plan = plan_of("table1", seeds=(0, 2))
    names = ["badnet", "blended", "label_consistent", "tdpa", "wanet"]
    plain = expand(
        MatrixRequest(
            "scenes", names, ["clip", "roclip", "safeclip"], ["asr", "zero_shot", "linear_probe"], (0, 2), options=SIZES
        )
    )
    assert {cell.key for cell in plain.cells} == set(plan.suites[0].cells)
    evaluations = {each.key for cell in plain.cells for each in cell.evaluations}
    assert evaluations == {each.key for cell in plan.suites[0].cells.values() for each in cell.evaluations}
    assert all(len(runs) == 2 for runs in plan.suites[0].runs.values())
    assert len({tuple(runs) for runs in plan.suites[0].runs.values()}) == 15  # four data sets are one here


def test_controls_are_those_of_a_plain_run() -> None:
    names = ["badnet", "blended", "label_consistent", "tdpa", "wanet"]
    plan, without = plan_of("table1", controls=True, evaluators=["asr"]), plan_of("table1", evaluators=["asr"])
    defenses = ["clip", "roclip", "safeclip"]
    plain = expand(MatrixRequest("scenes", names, defenses, ["asr"], options=SIZES, controls=True))
    assert {cell.key for cell in plain.cells} == set(plan.suites[0].cells)
    assert plan.suites[0].runs == without.suites[0].runs
    assert len(plan.suites[0].cells) == len(without.suites[0].cells) + 2 * 2 * len(names)


def test_rates_follow_the_recipe_by_their_factor() -> None:
    specs = specs_of(plan_of("table9", options=(*SIZES, "data.train=512")))
    rates = {condition: spec.attack.params["rate"] for condition, spec in specs.items() if spec.attack}
    assert rates["cc1m | badnet | safeclip"] == 0.01
    assert rates["cc1m | badnet 0.1% | safeclip"] == 0.02
    assert rates["mscoco | tdpa 0.1% | clip"] == 0.02
    assert rates["cc1m | badnet 0.5% | safeclip"] == 0.1
    other = specs_of(plan_of("table9", options=(*SIZES, "data.train=1024", "attack.rate=0.004")))
    assert other["cc1m | badnet 0.5% | clip"].attack.params["rate"] == 0.04  # type: ignore[union-attr]
    assert rescaled(0.0015, 0.017, 0.0015) == 0.017
    assert rescaled(0.001, 0.01, 0.0005) == 0.02


def test_variants_of_safeclip() -> None:
    plan = plan_of("table3", "table4", "table5", "table6", "table7", "table15")
    recipe = params(plan, "cc1m | tdpa | safeclip")
    warm = params(plan, "cc1m | tdpa | safeclip 10+1")
    assert (warm["unimodal"], warm["clip_epochs"]) == (10 / 48, 1)
    assert params(plan, "cc1m | tdpa | safeclip 5+0")["clip_epochs"] == 0
    lows = [
        params(plan, f"vg | tdpa | safeclip {lr}".replace("vg", "visual_genome"))["low_lr"] for lr in ("5e-6", "1e-5", "5e-5")
    ]
    assert lows == pytest.approx([recipe["low_lr"] * factor for factor in (1, 2, 10)])
    assert not params(plan, "cc1m | tdpa | safeclip no CL")["risky_unimodal"]
    assert not params(plan, "cc1m | tdpa | safeclip no NN")["use_pool"]
    assert params(plan, "mscoco | tdpa | safeclip t=0.7")["threshold"] == 0.7
    assert params(plan, "cc1m | tdpa | safeclip 1") == {**recipe, "unimodal": 1 / 48}
    longer = specs_of(plan)["cc1m | tdpa | safeclip 64 epochs"]
    assert longer.train.epochs == round(plan.matrices[0].cells[0].spec.train.epochs * 64 / 48)
    assert (64 * longer.defense.params["unimodal"], longer.defense.params["growth"] / 64) == (5, 0.01)
    same = [params(plan, f"cc1m | tdpa | {name}") for name in ("safeclip 5+1", "safeclip t=0.9", "safeclip 5e-6", "safeclip 5")]
    assert same == [recipe] * 4


def test_a_recipe_replaces_that_of_the_data_set_and_variants_keep_their_factors_to_it() -> None:
    plan = plan_of("table4", "table9", recipe="small", options=(*SIZES, "data.train=2048"))
    specs = specs_of(plan)
    assert {(spec.train.epochs, spec.train.lr) for spec in specs.values()} == {(24, 1.4e-3)}
    lows = [params(plan, f"cc1m | tdpa | safeclip {lr}")["low_lr"] for lr in ("5e-6", "1e-5", "5e-5")]
    assert lows == pytest.approx([0.1, 0.2, 1])
    badnets = [specs[f"cc1m | badnet{rate} | safeclip"].attack for rate in ("", " 0.1%")]
    assert [attack.params["rate"] for attack in badnets if attack] == pytest.approx([0.01, 0.02])
    for request in plan.requests:
        assert request.dump()["suite"]["recipe"] == "small"
        assert {cell.recipe for cell in request.cells} == {"small"}
    assert all("recipe" not in cell.dump() for request in plan_of("table4").requests for cell in request.cells)


def test_substituted_models_and_sizes() -> None:
    plan = plan_of("table12", "table13", options=())
    specs = specs_of(plan)
    assert specs["cc1m | tdpa | safeclip | ViT-B-32"].model.name == "scenes-vit-8"
    assert specs["cc1m | tdpa | safeclip | RN50"].model.name == "scenes-small"
    sizes = [specs[f"{name} | tdpa | safeclip"].data.params["train"] for name in ("cc3m", "cc1m", "cc100k")]
    assert sizes == [65536, 32768, 16384]


def test_missing_data() -> None:
    plugins.load()
    with pytest.raises(UserError, match="--data-root"):
        plan_of("table10", data=None, options=())
    with pytest.raises(UserError, match="unknown data set; did you mean 'mscoco'"):
        plan_of("table1", data="mscocoo")


def test_an_unregistered_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.registry import datasets

    plugins.load()
    monkeypatch.setattr(datasets, "_entries", {"scenes": datasets["scenes"]})
    with pytest.raises(UserError, match=r"table2: nothing can be run \(the data set cc3m is not available here\)"):
        plan_of("table2", data=None)


def test_one_of_the_papers_data_sets_takes_its_own_part() -> None:
    suite = load("table1")
    assert SuiteRequest([suite], data="mscoco").replacement(suite) is None
    assert SuiteRequest([suite], data="scenes").replacement(suite) == "scenes"
    assert SuiteRequest([suite]).replacement(suite) is None


def test_a_model_that_stands_in_has_its_own_rate_beside_the_same_model_at_the_recipes() -> None:
    specs = specs_of(plan_of("table13"))
    rates = {spec.model.name: spec.train.lr for spec in specs.values()}
    assert rates == {"scenes-small": 1.4e-3, "scenes-vit-8": 1e-3}
    assert {spec.train.lr for spec in specs_of(plan_of("table13", options=(*SIZES, "train.lr=2e-3"))).values()} == {2e-3}
    both = plan_of("table13", "table3", model="scenes-vit-8")
    rates = {each.suite.name: {cell.spec.train.lr for cell in each.cells.values()} for each in both.suites}
    assert rates["table3"] == {1.4e-3}
    assert 1e-3 in rates["table13"]
