"""Evaluation of a trained cell."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import torch

from bench import keys
from bench.api import DatasetBundle, FrozenModel, Images, PairScores, Predictions, Probe, Query, Surrogate
from bench.config import RunSpec
from bench.data.poisoned import ProbeImages
from bench.errors import UserError
from bench.matrix import pair_scores
from bench.matrix.cell import trained_encoder
from bench.matrix.expand import CellEvaluation
from bench.matrix.kept import filed
from bench.matrix.schema import DownstreamRecord, EvalRecord, MeasurementRecord, MetricRecord, PluginRecord
from bench.matrix.store import Store
from bench.matrix.workspace import Workspace
from bench.models.frozen import FrozenClip, FrozenSurrogate
from bench.registry import evaluators

_CACHE_SIZE = 4


class CellModels:
    """A cache of trained models; the least recently used one is dropped."""

    def __init__(self, workspace: Workspace, store: Store, device: torch.device) -> None:
        self._workspace = workspace
        self._store = store
        self._device = device
        self._cache: OrderedDict[str, FrozenClip] = OrderedDict()

    def load(self, spec: RunSpec) -> FrozenClip:
        key = keys.run_key(spec)
        if key not in self._cache:
            self._cache[key] = self._read(spec)
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return self._cache[key]

    def pair_scores(self, spec: RunSpec) -> PairScores:
        folder = self._store.run_dir(keys.run_key(spec))
        found = pair_scores.read(folder)
        if found is None:
            raise UserError(f"{folder / pair_scores.FILE} is missing or damaged: delete {folder / 'run.json'} to train anew")
        return found

    def surrogate(self, spec: RunSpec) -> FrozenSurrogate:
        return FrozenSurrogate(trained_encoder(spec, self._store, "fp32", self._device), self._workspace.tokens)

    def _read(self, spec: RunSpec) -> FrozenClip:
        return FrozenClip(trained_encoder(spec, self._store, spec.train.precision, self._device), self._workspace.tokens)


class CellEvalContext:
    """The context of one evaluation of a cell; `kept` is what its evaluator keeps."""

    def __init__(self, spec: RunSpec, clean: RunSpec | None, workspace: Workspace, models: CellModels) -> None:
        self.bundle: DatasetBundle = workspace.measured
        self.downstream = workspace.downstream
        self.seed = spec.seed
        self.kept: list[Predictions] = []
        self.model: FrozenModel = models.load(spec)
        self._spec = spec
        self._clean = clean
        self._workspace = workspace
        self._models = models

    @cached_property
    def probes(self) -> Sequence[Probe]:
        if self._spec.attack is None:
            return []
        attack, plan, ctx = self._workspace.poison(self._spec)
        return attack.probes(ctx, plan)

    @cached_property
    def queries(self) -> Sequence[Query]:
        if self._spec.attack is None:
            return []
        attack, plan, ctx = self._workspace.poison(self._spec)
        return attack.queries(ctx, plan)

    @cached_property
    def poisons(self) -> int:
        return len(self._workspace.poison(self._spec)[1].poisons) if self._spec.attack else 0

    @cached_property
    def _probe_images(self) -> ProbeImages:
        attack, plan, _ = self._workspace.poison(self._spec)
        return ProbeImages(self.bundle, attack, plan, self.probes)

    def probe_images(self) -> Images:
        return self._probe_images

    def keep(self, predictions: Predictions) -> None:
        self.kept.append(predictions)

    def pair_scores(self) -> PairScores:
        return self._models.pair_scores(self._spec)

    def surrogate(self) -> Surrogate:
        return self._models.surrogate(self._spec)

    def clean_model(self) -> FrozenModel:
        if self._clean is None:
            raise LookupError("this evaluator does not declare needs_clean_model")
        return self._models.load(self._clean)


def evaluate(evaluation: CellEvaluation, ctx: CellEvalContext) -> tuple[EvalRecord, bytes | None]:
    """Run one evaluator on a trained cell; returns its record, and the file of its predictions if it keeps any."""
    entry = evaluators[evaluation.evaluator.name]
    evaluator = entry.plugin(entry.plugin.Params.model_validate(evaluation.evaluator.params))
    measurements = evaluator.evaluate(ctx)
    sets = ctx.downstream.record() if entry.plugin.needs_tasks and ctx.downstream.tasks else None
    predictions, file = filed(ctx.kept) if ctx.kept else (None, None)
    more: dict[str, Any] = {"downstream": DownstreamRecord.of(sets) if sets else None, "predictions": predictions}
    record = EvalRecord(
        evaluator=PluginRecord.of(evaluation.evaluator.model_dump(mode="json")),
        clean_run_key=keys.run_key(evaluation.clean) if evaluation.clean else None,
        metrics=[MetricRecord.of(metric.model_dump()) for metric in entry.plugin.metrics],
        measurements=[MeasurementRecord.of(measurement.model_dump()) for measurement in measurements],
        finished=datetime.now(UTC).isoformat(timespec="microseconds"),
        **{name: value for name, value in more.items() if value is not None},
    )
    return record, file
