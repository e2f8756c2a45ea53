"""A submission is accepted, and refused once it is tampered with, also by somebody who refreshes all digests and keys."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from bench.cli import main

from .conftest import ACCEPTED, REFUSED, Verify
from .forger import Forger, Tree, bare, canonical, digest


def test_a_submission_is_measured_and_trained_again(weighed: Path, verify: Verify, tmp_path: Path) -> None:
    code, said = verify(weighed, "--run-plugins", "--retrain", "--to", tmp_path / "accepted")
    assert code == ACCEPTED
    assert "3 runs made by the code here: the same keys, data set and poison" in said
    assert "3 runs measured again with their weights: the same numbers to the last bit, on the same kind of CPU" in said
    assert "damped · badnet · scenes · seed 0 trained again: the same weights and numbers to the last bit" in said
    levels = json.loads((tmp_path / "accepted" / "verified.json").read_text())["levels"]
    assert sorted(levels.values()) == ["measured again"] * 2 + ["trained again"]
    _is_shown(tmp_path / "accepted", weighed, tmp_path / "site")


def _is_shown(folder: Path, archive: Path, site: Path) -> None:
    """Build a site of an accepted submission: its runs are there with their level and archive."""
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "build", str(folder), "--to", str(site), "--archive", str(archive)])
    assert not ended.value.code
    assert (site / "archives" / archive.name).read_bytes() == archive.read_bytes()
    assert "<b>2</b> measured again" in (site / "index.html").read_text()
    with (site / "rows.csv").open(newline="") as stream:
        rows = {row["defense"]: row for row in csv.DictReader(stream)}
    assert {name: row["level"] for name, row in rows.items()} == {"clip": "measured again", "damped": "trained again"}
    assert f'href="archives/{archive.name}"' in (site / f"{rows['clip']['setting']}.html").read_text()
    assert "Plain CLIP with nine tenths of the loss" in (site / "defense-damped.html").read_text()


def test_without_weights_and_plugins_less_is_known(
    light: Path, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "imported"
    monkeypatch.setenv("WITNESS", str(witness))
    code, said = verify(light, "--to", tmp_path / "accepted")
    assert code == ACCEPTED
    assert not witness.exists()
    assert "not checked: 1 run, 'damped' is not built in, and --run-plugins was not given" in said
    assert "not checked: the numbers of 3 runs without weights in the archive" in said
    verified = json.loads((tmp_path / "accepted" / "verified.json").read_text())
    assert sorted(verified["levels"].values()) == ["claimed"] + ["consistent"] * 2
    assert verified["sha256"] == hashlib.sha256(light.read_bytes()).hexdigest()
    assert verify(light, "--run-plugins")[0] == ACCEPTED
    assert witness.exists()


@pytest.mark.parametrize("end", ["evals/", "poison.json", "model.safetensors", "plugins/damped.py", "requests/"])
def test_a_changed_byte_without_a_new_digest(end: str, weighed: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(weighed)
    path = next(path for path in forged.files if end in path)
    forged.files[path] += b" "
    code, said = verify(forged.save(tmp_path / "forged.zip", refresh=False))
    assert code == REFUSED
    assert f"{path}: its sha256 is not that in submission.json" in said


def _raise_asr(forged: Forger) -> str:
    """Make up another ASR, with its interval left as it is; returns the file."""
    path = forged.evaluation(forged.run("clip", "badnet", 0), "asr")

    def change(tree: Tree) -> None:
        tree["measurements"][0]["value"] = (tree["measurements"][0]["value"] + 0.5) % 1

    forged.edit(path, change)
    return path


def test_a_number_is_seen_through_by_predictions(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    path = _raise_asr(forged)
    value = forged.tree(path)["measurements"][0]["value"]
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{path}: asr of all is {value}, but the mean of the predictions beside it is " in said


def test_predictions_are_those_of_the_record(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    path = forged.evaluation(forged.run("clip", "badnet", 0), "asr")
    file = f"{path.removesuffix('.json')}.npz"
    forged.rewrite(file, lambda arrays: arrays.update(predicted=arrays["target"]))
    assert f"{file}: its sha256 is not that in the record" in verify(forged.save(tmp_path / "other.zip"))[1]
    forged.edit(path, lambda tree: tree["predictions"].update(sha256=hashlib.sha256(forged.files[file]).hexdigest()))
    assert "but the mean of the predictions beside it is" in verify(forged.save(tmp_path / "told.zip"))[1]
    forged.files[file] = b"PK\x05\x06" + b"\0" * 18
    forged.edit(path, lambda tree: tree["predictions"].update(sha256=hashlib.sha256(forged.files[file]).hexdigest()))
    assert f"{file}: not a file of predictions" in verify(forged.save(tmp_path / "none.zip"))[1]
    del forged.files[file]
    assert f"{file}: missing, but in the record beside it" in verify(forged.save(tmp_path / "lost.zip"))[1]


def test_made_up_predictions_are_seen_through_by_weights(weighed: Path, verify: Verify, tmp_path: Path) -> None:
    """As many hits, of other images."""
    forged = Forger(weighed)
    path = forged.evaluation(forged.run("clip", "badnet", 0), "asr")
    file = f"{path.removesuffix('.json')}.npz"
    forged.rewrite(file, lambda arrays: arrays.update(uid=arrays["uid"][::-1]))
    forged.edit(path, lambda tree: tree["predictions"].update(sha256=hashlib.sha256(forged.files[file]).hexdigest()))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert (code, f"{path}: the model in the archive makes other predictions" in said) == (REFUSED, True)


def test_a_number_is_seen_through_by_weights(weighed: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(weighed)
    path = _raise_asr(forged)
    forged.forget_predictions(path)
    value = forged.tree(path)["measurements"][0]["value"]
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{path}: asr of all is {value}, but the model in the archive gives" in said


def test_a_number_is_seen_through_by_a_new_training_and_by_nothing_else(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    path = _raise_asr(forged)
    forged.forget_predictions(path)
    archive = forged.save(tmp_path / "forged.zip")
    assert verify(archive)[0] == ACCEPTED
    code, said = verify(archive, "--retrain", "--run", path.split("/")[1])
    assert code == REFUSED
    assert f"{path}: asr of all is" in said
    assert "but a new training gives" in said


def test_a_second_value_of_a_metric(weighed: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(weighed)
    path = forged.evaluation(forged.run("clip", "badnet", 0), "asr")
    forged.forget_predictions(path)
    forged.edit(path, lambda tree: tree["measurements"].insert(0, {**tree["measurements"][0], "value": 0.0}))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert (code, f"{path}: has two values of one metric and task" in said) == (REFUSED, True)


def test_a_manifest_of_poison(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    folder = forged.run("clip", "badnet", 0)

    def change(tree: Tree) -> None:
        tree["poisons"][0]["caption"] = "a harmless caption"
        tree.pop("hash")
        tree["hash"] = hashlib.sha256(canonical(tree)).hexdigest()

    forged.edit(f"{folder}/poison.json", change)
    assert verify(forged.save(tmp_path / "half.zip"))[1].endswith(f"{folder}/poison.json: not the poison that run.json names\n")
    told = forged.tree(f"{folder}/poison.json")["hash"]
    forged.edit(f"{folder}/run.json", lambda tree: tree["poison"].update(hash=told))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{folder}/poison.json: badnet with seed 0 makes other poison of scenes here" in said


def test_weights_of_another_run(weighed: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(weighed)
    folder, other = forged.run("clip", "badnet", 0), forged.run("clip", None, 0)
    _exchange(forged, folder, forged.files[f"{other}/model.safetensors"])
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{folder}/evals/" in said
    assert "the model in the archive" in said


@pytest.mark.parametrize("content", [b"\x80\x04pickle", b"\x08\0\0\0\0\0\0\0{}      "], ids=["pickle", "empty"])
def test_weights_that_are_none(content: bytes, weighed: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(weighed)
    folder = forged.run("clip", "badnet", 0)
    _exchange(forged, folder, content)
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{folder}/model.safetensors: " in said
    assert "cannot be measured on it" in said


def _exchange(forged: Forger, folder: str, weights: bytes) -> None:
    forged.files[f"{folder}/model.safetensors"] = weights
    told = hashlib.sha256(weights).hexdigest()
    forged.edit(f"{folder}/run.json", lambda tree: tree["weights"].update(sha256=told))


def test_the_source_of_a_plugin(light: Path, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WITNESS", str(tmp_path / "imported"))
    forged = Forger(light)
    forged.files["plugins/damped.py"] += b"\n# a remark\n"
    code, said = verify(forged.save(tmp_path / "forged.zip"), "--run-plugins")
    assert code == REFUSED
    assert "'damped' is not built in as released, and no file in plugins/ has its sha256" in said
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("lost", ["run", "evaluation"])
def test_a_missing_seed(lost: str, light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    folder = forged.run("damped", "badnet", 0)
    path = f"{folder}/run.json" if lost == "run" else forged.evaluation(folder, "asr")
    forged.drop(folder if lost == "run" else path)
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{path}: missing: a request asks for " in said
    assert "damped against badnet with seed 0" in said


def test_a_seed_that_was_asked_for_and_left_out(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    key = forged.run("clip", "badnet", 0).removeprefix("runs/")

    def change(tree: Tree) -> None:
        (cell,) = [cell for cell in tree["cells"] if cell["run_key"] == key]
        spec = {**cell["spec"], "seed": 7}
        tree["cells"].append({**cell, "spec": spec, "seed": 7, "run_key": digest(bare(spec))})

    forged.edit_requests(change)
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert "missing: a request asks for clip against badnet with seed 7" in said


def test_a_bad_seed_called_unsupported(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    folder = forged.run("clip", "badnet", 0)
    forged.drop(folder)

    def change(tree: Tree) -> None:
        for cell in tree["cells"]:
            if cell["run_key"] == folder.removeprefix("runs/"):
                cell["unsupported"] = "it was a bad day"

    forged.edit_requests(change)
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert code == REFUSED
    assert f"{folder}/run.json: a request calls it unsupported (it was a bad day), here it is supported" in said


def test_a_record_that_nobody_asked_for(light: Path, verify: Verify, tmp_path: Path) -> None:
    forged = Forger(light)
    folder = forged.run("clip", "badnet", 0)
    key = folder.removeprefix("runs/")
    forged.edit_requests(lambda tree: tree.update(cells=[each for each in tree["cells"] if each["run_key"] != key]))
    code, said = verify(forged.save(tmp_path / "forged.zip"))
    assert (code, f"{folder}/run.json: no request asks for it" in said) == (REFUSED, True)


def test_options_that_contradict_each_other(light: Path, verify: Verify, tmp_path: Path) -> None:
    assert "--run abc: names the run of --retrain" in verify(light, "--run", "abc")[1]
    assert "--run abc: no run of the archive" in verify(light, "--retrain", "--run", "abc")[1]
    assert f"--to {tmp_path}: exists" in verify(light, "--to", tmp_path)[1]
    assert "expected NAME:DIR" in verify(light, "--data", "mscoco")[1]
