"""A submission with another specification under the keys that it would have is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ACCEPTED, REFUSED, Verify
from .forger import Forger, Tree


def test_another_data_set_under_this_name(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    forged.rekey(lambda spec: spec["data"].update(fingerprint="0" * 16))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert "its data is scenes with the fingerprint 0000000000000000, here " in said


def test_results_of_this_data_set_under_another_name(light: Path, verify: Verify, tmp_path: Path) -> None:
    """With the fingerprint that the other one has."""
    from bench.data.scenes.dataset import ScenesParams, _fingerprint

    def change(spec: Tree) -> None:
        spec["data"]["params"]["seed"] = 1
        spec["data"]["fingerprint"] = _fingerprint("2", ScenesParams(**spec["data"]["params"]), 32)

    forged = Forger(light)
    forged.rekey(change)
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert "makes other poison of scenes here" in said


def test_a_key_that_is_not_that_of_its_specification(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    folder = forged.run("clip", "badnet", 0)
    forged.edit(f"{folder}/run.json", lambda tree: tree["spec"]["train"].update(lr=1.0))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert (code, f"{folder}/run.json: run_key: is " in said) == (REFUSED, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: spec.update(engine="1"), "its engine is 1, here "),
        (lambda spec: spec["attack"] and spec["attack"].update(version="0"), "its attack is badnet of version 0, here "),
        (lambda spec: spec["model"].update(name="hf-hub:evil/model"), "no model is named 'hf-hub:evil/model'"),
        (lambda spec: spec["model"].update(config="0" * 16), "its model is "),
    ],
    ids=["engine", "version", "hub", "config"],
)
def test_code_that_is_not_here(
    change: Callable[[Tree], object], reason: str, light: Path, verify: Verify, tmp_path: Path
) -> None:
    forged = Forger(light)
    forged.rekey(change)
    if "hub" in reason:
        forged.edit_requests(lambda tree: [cell.update(model=cell["spec"]["model"]["name"]) for cell in tree["cells"]])
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert reason in said


def test_a_request_that_calls_a_run_something_else(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    forged.edit_requests(lambda tree: tree["cells"][-1].update(defense="safeclip"))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert (code, "calls run" in said) == (REFUSED, True)


def test_no_data_set_of_any_size_is_rendered(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    forged.rekey(lambda spec: spec["data"]["params"].update(train=10**12))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == ACCEPTED
    assert "not checked: 2 runs, more than 1,048,576 images are not rendered for a check" in said
