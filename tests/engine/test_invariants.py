"""What the numbers rest on: the clean model is the clean one, no draw comes twice, no second is lost."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from bench.api import Batch, Encoder, Evaluator, Measurement, Metric, Phase, Probe
from bench.data.augment import to_float
from bench.data.captions import CaptionTokens
from bench.data.poisoned import PoisonedPairs, ProbeImages
from bench.defenses.clip import CLIP
from bench.matrix import cell as cells
from bench.matrix.expand import Matrix
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.registry import register_defense, register_evaluator
from bench.training import stages
from bench.training.scorer import PairScorer

from .small import small_matrix
from .training import Recorder, execute

CPU = torch.device("cpu")


def _by_hand(matrix: Matrix, store: Store, key: str, images: ProbeImages) -> torch.Tensor:
    """Image embeddings of the weights that lie in a run's folder."""
    cell = next(cell for cell in matrix.cells if cell.key == key)
    model = factory.create(cell.spec.model.name, 0)
    model.load_state_dict(load_file(store.run_dir(key) / "model.safetensors"))
    encoder = ClipEncoder(model, cell.spec.train.precision, CPU).eval()
    with torch.no_grad():
        return encoder.encode_image(to_float(images.load(np.arange(len(images)))))


def test_the_floor_is_measured_on_the_model_without_poison(registries: None, tmp_path: Path) -> None:
    seen: list[Any] = []

    @register_evaluator("embeddings")
    class Embeddings(Evaluator):
        metrics = (Metric(name="images"),)
        needs_attack = needs_clean_model = True

        def evaluate(self, ctx: Any) -> list[Measurement]:
            images = ctx.probe_images()
            seen.append((ctx.model.image_features(images), ctx.clean_model().image_features(images), images, ctx.seed))
            return [Measurement(metric="images", task="all", value=0, n=len(images), ci_low=0, ci_high=1)]

    matrix = small_matrix("attack.rate=0.1", defenses=["clip", "roclip"], evaluators=["embeddings"], seeds=[0, 1])
    store = Store.create(tmp_path)
    assert execute(matrix, store)[0] == {"done": len(matrix.cells)}
    measured = [cell for cell in matrix.cells if cell.spec.attack is not None]
    assert len(seen) == len(measured) == 4
    for cell, (trained, clean, images, seed) in zip(measured, seen, strict=True):
        assert seed == cell.spec.seed
        (floor,) = [
            each.key
            for each in matrix.cells
            if each.spec.attack is None and each.spec.defense.name == "clip" and each.spec.seed == cell.spec.seed
        ]
        assert torch.allclose(trained, _by_hand(matrix, store, cell.key, images), atol=1e-5)
        assert torch.allclose(clean, _by_hand(matrix, store, floor, images), atol=1e-5)
        assert (trained - clean).abs().max() > 1e-2
        (record,) = [store.eval_record(cell.key, "embeddings", each.key) or {} for each in cell.evaluations]
        assert record["clean_run_key"] == floor


def test_the_images_of_probes_are_those_of_the_cells_own_plan(registries: None, tmp_path: Path) -> None:
    """Of each attack its own, with the triggers that its training had."""
    matrix = small_matrix(attacks=["badnet", "blended"], evaluators=["asr"])
    from bench.matrix.evaluation import CellEvalContext, CellModels

    store = Store.create(tmp_path)
    execute(matrix, store)
    models = CellModels(matrix.workspace, store, CPU)
    for cell in (cell for cell in matrix.cells if cell.spec.attack is not None):
        ctx = CellEvalContext(cell.spec, None, matrix.workspace, models)
        attack, plan, context = matrix.workspace.poison(cell.spec)
        probes: Sequence[Probe] = attack.probes(context, plan)
        assert list(ctx.probes) == list(probes)
        sources = {"holdout": matrix.workspace.bundle.holdout, "test": matrix.workspace.bundle.test}
        for row, probe in list(enumerate(probes))[::7]:
            pixels = sources[probe.split].images.load(np.array([probe.index]))
            wanted = pixels if probe.edit is None else attack.apply(pixels.clone(), [probe.edit], plan)
            assert torch.equal(ctx.probe_images().load(np.array([row])), wanted)


def _same_picture(self: PoisonedPairs, indices: NDArray[np.int64]) -> torch.Tensor:
    ramp = torch.arange(32, dtype=torch.uint8) * 8
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), ramp.flip(0).expand(32, 32)]).repeat(
        len(indices), 1, 1, 1
    )


def _same_words(
    self: CaptionTokens, indices: NDArray[np.int64], alpha: float, rng: np.random.Generator, rows: slice
) -> torch.Tensor:
    return torch.from_numpy(rng.integers(1, 50, (len(indices), 16)))[rows]


def test_no_two_pictures_or_captions_are_augmented_alike(
    registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one picture and one caption in every place, no view comes twice: not in a batch, a phase, an epoch or a run."""
    seen: list[torch.Tensor] = []

    @register_defense("viewer")
    class Viewer(CLIP):
        def phases(self, epoch: int) -> tuple[Phase, ...]:
            views: Any = ("light", "strong", "light"), ("eda", "eda")
            return Phase("one", np.arange(96), *views), Phase("two", np.arange(96), *views)

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            assert all(len(view) == 32 for view in (*batch.images, *batch.texts))
            seen.append(torch.cat([view.flatten(1).float() for view in batch.images]))
            words.append(torch.cat(batch.texts))
            return super().loss(batch, encoder, phase)

    words: list[torch.Tensor] = []
    matrix = small_matrix("train.epochs=2", "train.batch_size=32", "train.crop=0.5", attacks=["none"], defenses=["viewer"])
    monkeypatch.setattr(PoisonedPairs, "load", _same_picture)
    monkeypatch.setattr(CaptionTokens, "eda", _same_words)
    assert execute(matrix, Store.create(tmp_path))[0]["done"] == 1
    assert len(seen) == 2 * 2 * 3
    pictures, captions = torch.cat(seen), torch.cat(words)
    assert len(pictures.unique(dim=0)) == len(pictures) == 12 * 3 * 32
    assert len(captions.unique(dim=0)) == len(captions) == 12 * 2 * 32


def _ticks() -> Iterator[float]:
    return map(float, itertools.count())


def test_no_second_is_lost_when_a_run_goes_on(registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by one at each look, so that a stage takes one second each time."""
    matrix, store = small_matrix("train.epochs=3"), Store.create(tmp_path)
    ticks = _ticks()
    monkeypatch.setattr(stages, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    for stop in (5, 4):
        with pytest.raises(KeyboardInterrupt):
            execute(matrix, store, stop_after=stop)
    execute(matrix, store)
    record = store.run_record(matrix.cells[-1].key) or {}
    steps = sum(curve["steps"] for curve in record["curves"])
    assert steps == 12
    assert {name: record["timing"]["stages"][name] for name in ("augment", "forward", "backward", "optimiser")} == {
        "augment": steps,
        "forward": steps,
        "backward": steps,
        "optimiser": steps,
    }
    assert record["timing"]["pairs_per_second"] == pytest.approx(12 * 64 / sum(c["seconds"] for c in record["curves"]))


def test_draws_of_the_global_generators_follow_from_the_place_in_the_run(registries: None, tmp_path: Path) -> None:
    """Dropout, say, goes on after an interruption as it would have without, and no two steps draw alike."""
    drawn: list[tuple[float, ...]] = []

    @register_defense("gambler")
    class Gambler(CLIP):
        def before_epoch(self, epoch: int, scorer: Any) -> None:
            drawn.append((-1.0, *_draw()))

        def after_epoch(self, epoch: int, scorer: Any) -> None:
            drawn.append((-2.0, *_draw()))

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            drawn.append(_draw())
            return super().loss(batch, encoder, phase)

    matrix = small_matrix("train.epochs=2", attacks=["none"], defenses=["gambler"])
    execute(matrix, Store.create(tmp_path / "whole"))
    whole = list(drawn)
    assert len(whole) == 2 * (1 + 4 + 1)
    assert all(len({draw[-number] for draw in whole}) == len(whole) for number in (1, 2, 3))
    store = Store.create(tmp_path / "often")
    drawn.clear()
    for _ in range(9):
        torch.manual_seed(len(drawn))
        try:
            execute(matrix, store, stop_after=1)
        except KeyboardInterrupt:
            continue
        break
    assert drawn == whole


def _draw() -> tuple[float, ...]:
    return float(torch.rand(())), random.random(), float(np.random.random())


def test_scoring_looks_and_changes_nothing(registries: None, tmp_path: Path) -> None:
    """Against embeddings in evaluation mode by hand; a pair's similarity does not depend on those beside it."""
    matrix = small_matrix("attack.rate=0.1")
    runtime = Runtime(CPU, Recorder(), lambda: False)
    trainer, _ = cells.prepare(matrix.cells[-1], matrix.workspace, Store.create(tmp_path), runtime)
    encoder, pairs = trainer.encoder, trainer.pairs
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert any("running_mean" in name for name in before)
    rows = np.arange(len(pairs))[::-3]
    scorer = PairScorer(encoder, pairs, trainer.captions)
    similarities, (images, texts) = scorer.similarities(rows), scorer.embeddings(rows)
    alone = scorer.similarities(rows[5:6])
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    encoder.eval()
    with torch.no_grad():
        image = encoder.encode_image(to_float(pairs.load(rows)))
        text = encoder.encode_text(trainer.captions.plain(rows))
    assert np.allclose(similarities, (image * text).sum(dim=1).numpy(), atol=1e-5)
    assert torch.allclose(images, image, atol=1e-5)
    assert torch.allclose(texts, text, atol=1e-5)
    assert np.allclose(alone, similarities[5:6], atol=1e-5)


def test_training_begins_with_weights_of_the_seed_alone(tmp_path: Path) -> None:
    matrix = small_matrix(attacks=["none", "badnet"], defenses=["clip", "roclip"], seeds=[0, 1])
    runtime = Runtime(CPU, Recorder(), lambda: False)
    first: dict[int, list[torch.Tensor]] = {}
    for cell in matrix.cells:
        trainer, _ = cells.prepare(cell, matrix.workspace, Store.create(tmp_path), runtime)
        weights = [value.flatten() for value in trainer.encoder.model.visual.parameters()]
        first.setdefault(cell.spec.seed, []).append(torch.cat(weights))
    assert [len(same) for same in first.values()] == [4, 4]
    assert all(torch.equal(same[0], other) for same in first.values() for other in same)
    assert not torch.equal(first[0][0], first[1][0])


def test_fine_tuning_begins_with_the_weights_of_the_same_cell(registries: None, tmp_path: Path) -> None:
    first: list[dict[str, torch.Tensor]] = []

    @register_defense("later")
    class Later(CLIP):
        @classmethod
        def starts_from(cls) -> str | None:
            return "clip"

        def loss(self, batch: Batch, encoder: Any, phase: Phase) -> torch.Tensor:
            first.append({name: value.clone() for name, value in encoder.model.state_dict().items()})
            return super().loss(batch, encoder, phase)

    matrix, store = small_matrix(defenses=["clip", "later"], attacks=["badnet"]), Store.create(tmp_path)
    execute(matrix, store)
    (base,) = [each for each in matrix.cells if each.spec.defense.name == "clip" and each.spec.attack is not None]
    weights = load_file(store.run_dir(base.key) / "model.safetensors")
    parameters = [name for name in weights if name in first[0] and weights[name].shape == first[0][name].shape]
    assert len(parameters) > 10
    named = [name for name in parameters if "num_batches" not in name and "running" not in name]
    assert all(torch.equal(first[0][name], weights[name]) for name in named)


def test_the_logit_scale_stays_in_range_while_it_is_trained(registries: None, tmp_path: Path) -> None:
    """Of the weights on disk too, which others read without the encoder's limit."""

    @register_defense("sharpened")
    class Sharpened(CLIP):
        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            return 0 * super().loss(batch, encoder, phase) - encoder.logit_scale

    matrix = small_matrix("train.epochs=2", "train.lr=3", attacks=["none"], defenses=["sharpened"])
    store = Store.create(tmp_path)
    assert execute(matrix, store)[0] == {"done": 1}
    weights = load_file(store.run_dir(matrix.cells[0].key) / "model.safetensors")
    assert float(weights["logit_scale"]) == pytest.approx(math.log(100))


def test_an_epoch_interrupted_at_its_end_does_not_begin_again(registries: None, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []

    @register_defense("punctual")
    class Punctual(CLIP):
        def before_epoch(self, epoch: int, scorer: Any) -> None:
            heard.append(("before", epoch))

        def after_epoch(self, epoch: int, scorer: Any) -> None:
            heard.append(("after", epoch))
            if heard.count(("after", 0)) == 1:
                raise KeyboardInterrupt

    matrix = small_matrix("train.epochs=2", attacks=["none"], defenses=["punctual"])
    store = Store.create(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(matrix, store)
    assert execute(matrix, store)[0] == {"done": 1}
    assert heard == [("before", 0), ("after", 0), ("after", 0), ("before", 1), ("after", 1)]
