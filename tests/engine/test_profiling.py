import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.api import Batch, Encoder, Phase, Scorer
from bench.cli import main
from bench.defenses.clip import CLIP
from bench.profiling import machine, measure
from bench.profiling.measure import CachedScorer, PhaseTimes, StepLimit, TrainingTimes, phase_stages
from bench.profiling.profile import Profile, figures, profile
from bench.registry import register_defense

from .small import SMALL, small_matrix

CPU = torch.device("cpu")


def _profile(defense: str, *options: str, limit: StepLimit | None = None) -> Profile:
    matrix = small_matrix(*options, attacks=["none"], defenses=[defense])
    return profile(matrix.cells[0], matrix.workspace, CPU, limit or StepLimit(2))


def _register_linear() -> None:
    @register_defense("linear")
    class Linear(CLIP):
        """Nothing but a linear layer: 5 numbers of each image to 7."""

        def __init__(self, params: Any, setup: Any) -> None:
            super().__init__(params, setup)
            self.layer = nn.Linear(5, 7, bias=False)

        def modules(self) -> Sequence[nn.Module]:
            return (self.layer,)

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            return self.layer(batch.images[0].flatten(1)[:, :5]).square().mean()


def test_operations_of_a_linear_layer(registries: None) -> None:
    _register_linear()
    (phase,) = _profile("linear", "train.crop=1")["phases"]
    forward = weight_gradient = 2 * 5 * 7  # a product and a sum for each weight; the input needs no gradient
    assert phase["flop_per_pair"] == forward + weight_gradient
    assert phase["flop_per_second"] == pytest.approx(phase["flop_per_pair"] * phase["pairs_per_second"])


def _register_three_phases() -> None:
    @register_defense("three_phases")
    class ThreePhases(CLIP):
        """Epochs of all pairs, then of two unequal sets, with scoring after each."""

        def phases(self, epoch: int) -> Sequence[Phase]:
            all_pairs = torch.arange(self.setup.pairs).numpy()
            return (Phase("all"),) if epoch == 0 else (Phase("some", all_pairs[:64]), Phase("others", all_pairs[64:]))

        def after_epoch(self, epoch: int, scorer: Scorer) -> None:
            scorer.similarities()


@pytest.mark.parametrize("defense", ["roclip", "otcclip"])
def test_epochs_of_which_no_step_is_trained_match_nothing(defense: str) -> None:
    found = _profile(defense, "train.epochs=8", limit=StepLimit(1, epochs=1))
    assert {phase["phase"] for phase in found["phases"]} == {"train", "match"}


def test_the_whole_is_that_of_the_schedule(registries: None) -> None:
    _register_three_phases()
    found = _profile("three_phases", "train.epochs=5")
    phases = {phase["phase"]: phase for phase in found["phases"]}
    assert {name: phase["pairs"] for name, phase in phases.items()} == {"all": 256, "some": 4 * 64, "others": 4 * 192}
    assert {name: phase["measured_steps"] for name, phase in phases.items()} == {"all": 2, "some": 2, "others": 2}
    assert found["pairs"] == 5 * 256
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert sum(found["stages"].values()) == pytest.approx(found["seconds"])
    between = sum(found["stages"][name] for name in ("scoring_forward", "scoring_rest", "split"))
    assert sum(phase["seconds"] for phase in phases.values()) + between == pytest.approx(found["seconds"])
    assert found["stages"]["scoring_forward"] > found["stages"]["scoring_rest"] > 0
    assert found["stages"]["other"] >= 0
    assert found["stages"]["backward"] > 0
    assert found["peak_bytes"]["rss"] > 2**26
    whole = _profile("three_phases", "train.epochs=5", limit=StepLimit(1, epochs=1))
    assert [phase["measured_steps"] for phase in whole["phases"]] == [4, 1, 3]


def test_seconds_are_extrapolated_by_steps() -> None:
    phase = PhaseTimes("p", ((), 0, 0), steps=4, seconds=2.0, stages={"forward": 1.5}, whole_steps=40, whole_pairs=400)
    assert phase_stages(phase) == {"forward": 15.0, "other": 5.0}
    times = TrainingTimes([phase], scoring_forward=2.0, scoring_rest=1.0, split=1.0)
    assert times.seconds == 24.0
    between = {"selection": 0.0, "scoring_forward": 2.0, "scoring_rest": 1.0, "split": 1.0}
    assert times.stages() == {**between, "forward": 15.0, "other": 5.0}
    found = figures(times, 1.0)
    assert found["outside_with_scoring_forward"] == pytest.approx(9 / 24)
    assert found["outside_without_scoring_forward"] == pytest.approx(7 / 24)


def test_pairs_are_scored_once_and_counted_always(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    stages = measure.MeasuredStages(CPU)
    asked = []

    class Fake:
        def similarities(self, indices: Any = None) -> Any:
            asked.append(indices.tolist())
            if len(indices):
                with stages("scoring_forward"):
                    next(clock)
            return (indices / 10).astype("float32")

    scorer = CachedScorer(Fake(), 6, stages)  # type: ignore[arg-type]
    first = scorer.similarities()
    assert scorer.extrapolated_seconds() == (2, 2)
    assert scorer.similarities().tolist() == first.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [rows for rows in asked if rows] == [[0, 1, 2, 3, 4, 5]]
    assert scorer.extrapolated_seconds() == (4, 6)  # a second reading of the clock took one


def test_a_matrix_product_has_a_rate() -> None:
    assert machine.matmul_rate(torch.float32, CPU) > 1e8


def test_files_read_in_place_are_told_from_other_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        assert machine.mapped_files() == 0
        return
    size = 64 * 2**20
    (tmp_path / "zeros").write_bytes(bytes(size))
    before = machine.mapped_files()
    held = np.ones(size, dtype=np.uint8)
    assert machine.mapped_files() - before < size / 2
    mapped = np.memmap(tmp_path / "zeros", dtype=np.uint8, mode="r")
    assert mapped.sum() == 0
    assert machine.mapped_files() - before > size / 2
    assert machine.peak_rss() > size
    del held


def test_the_command_prints_and_writes(registries: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for option in SMALL for part in ("--set", option)]
    figures, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--defense", "clip", "--steps", "1", *sets, "--out", str(figures), "--trace", str(trace)])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "whole run" in said
    assert "peak memory" in said
    (found,) = json.loads(figures.read_text())["profiles"]
    assert found["defense"] == "clip"
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"clip: train", "augment", "forward", "backward", "optimiser"} <= names


def test_sizes_are_said_as_they_are_measured_and_compared_at_the_end(
    registries: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sets = [part for option in SMALL if not option.startswith("data.train=") for part in ("--set", option)]
    figures = tmp_path / "sizes.json"
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--defense", "clip", "--steps", "1", "--sizes", "128,256", *sets, "--out", str(figures)])
    assert not ended.value.code
    smaller, larger = (
        (each["train_pairs"], 1e6 * each["seconds"] / each["train_pairs"])
        for each in json.loads(figures.read_text())["profiles"]
    )
    said = capsys.readouterr().out
    assert [smaller[0], larger[0]] == [128, 256]
    for pairs, cost in (smaller, larger):
        assert f"clip, {pairs} pairs: {cost:,.0f} us/pair, peak memory" in said
    assert (
        said.index("clip, 256 pairs") < said.index("ratio") < said.index(f"{larger[1] / smaller[1]:.2f}", said.index("ratio"))
    )


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--sizes", "16k,many"])
    assert ended.value.code == 2
    assert "--sizes many" in capsys.readouterr().err
