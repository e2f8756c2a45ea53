"""Training of one cell, and its record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import torch
from safetensors import SafetensorError, safe_open

from bench import keys
from bench.api import Budget, DatasetBundle, Guide, TrainRecipe, TrainSetup
from bench.config import RunSpec, TrainSpec
from bench.data import thesaurus
from bench.data.captions import CaptionTokens, TokenRows
from bench.data.elements import elements
from bench.data.poisoned import PoisonedPairs
from bench.disk import atomic_write
from bench.errors import UserError
from bench.matrix import pair_scores, schema
from bench.matrix.expand import Cell
from bench.matrix.provenance import provenance
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store, write_json
from bench.matrix.tracking import tracked
from bench.matrix.workspace import Workspace
from bench.models import factory, pretrained
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip
from bench.models.recompute import checkpoint_activations
from bench.models.vocabulary import CompactVocabulary
from bench.registry import defenses
from bench.shutdown import interruptible
from bench.training.checkpoint import Checkpoint
from bench.training.engagement import engagement
from bench.training.held import construct
from bench.training.joint_loss import synchronised
from bench.training.memory import on_gpu, require_memory
from bench.training.scorer import PairScorer
from bench.training.telemetry import similarity_map
from bench.training.trainer import Trainer

WEIGHTS = "model.safetensors"
_CHECKPOINT = "checkpoint.pt"


def is_trained(store: Store, spec: RunSpec) -> bool:
    """Whether the cell has a record and intact weights; records of version 0.1 have no checksum to compare with."""
    key = keys.run_key(spec)
    record = store.run_record(key)
    if record is None:
        return False
    path = store.run_dir(key) / WEIGHTS
    try:
        if record.weights.sha256:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == record.weights.sha256
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def remove_leftovers(spec: RunSpec, store: Store) -> None:
    """Delete the temporary files and checkpoints that a killed process left of a cell; the caller holds its lock."""
    key = keys.run_key(spec)
    store.remove_temporaries(key)
    if is_trained(store, spec):
        Checkpoint.remove(store.run_dir(key) / _CHECKPOINT)


def train(cell: Cell, workspace: Workspace, store: Store, runtime: Runtime) -> None:
    """Train one cell and, on rank 0, write its weights, poison manifest and record."""
    spec, key = cell.spec, cell.key
    folder = store.run_dir(key)
    started = _now()
    with tracked(runtime.progress, runtime.track, store.root / "track", spec) as progress:
        with interruptible(runtime.stop):
            trainer, vocabulary = prepare(cell, workspace, store, replace(runtime, progress=progress))
        trained = trainer.run()
    pairs, encoder = trainer.pairs, trainer.encoder
    scorer = PairScorer(encoder, pairs, trainer.captions, ranks=runtime.ranks)
    examples = similarity_map(scorer, pairs, workspace.bundle.vocabulary.names)
    if not runtime.ranks.is_main:
        return
    vocabulary.restore()
    weights = factory.weights_bytes(encoder.model)
    with atomic_write(folder / WEIGHTS) as stream:
        stream.write(weights)
    write_manifest(spec, workspace, store)
    defense, params = trainer.defense, trainer.defense.params
    pair_scores.write(folder, defense, pairs.poisoned)
    record = schema.RunRecord(
        spec=schema.SpecRecord.of(spec.model_dump(mode="json")),
        provenance=provenance(runtime.device, runtime.ranks.count, runtime.command, started, **_more_provenance(spec, runtime)),
        timing=schema.Timing(
            train_seconds=trained.train_seconds,
            pairs_per_second=trained.pairs_per_second,
            stages=trained.seconds,
            builds_on_seconds=sum(_seconds(store, each) for each in (cell.start, cell.guide) if each),
        ),
        curves=[schema.CurvePoint.of(curve) for curve in trained.curves],
        meaning=defense.meaning(params),
        engagement=[schema.LimitRecord.of(limit) for limit in engagement(defense.limits(params), trained.curves)],
        examples=schema.Examples.of(examples) if examples else None,
        poison=_poison_summary(spec, workspace),
        data=schema.TrainingData(train_pairs=len(pairs), facts=workspace.bundle.facts),
        weights=schema.Weights(sha256=hashlib.sha256(weights).hexdigest()),
    )
    store.write_run(key, record)
    Checkpoint.remove(trainer.checkpoint)


def prepare(cell: Cell, workspace: Workspace, store: Store, runtime: Runtime) -> tuple[Trainer, CompactVocabulary]:
    """Build the trainer of a cell, and the compact vocabulary that its model is trained with."""
    spec = cell.spec
    plugin = defenses[spec.defense.name].plugin
    control = plugin.control(clip_budget(store, cell.control_of)) if cell.control_of else None
    params = plugin.Params.model_validate({**spec.defense.params, **(control or {})})
    pairs = workspace.pairs(spec)
    base = TrainRecipe(len(pairs), spec.train.epochs, spec.train.lr, spec.train.batch_size)
    recipe = TrainSpec.model_validate({**spec.train.model_dump(), **plugin.training(params, base)})
    model = _initial(spec)
    if cell.start is not None and runtime.ranks.is_main:
        factory.load_weights(model, store.run_dir(keys.run_key(cell.start)) / WEIGHTS)
    synonyms = thesaurus.synonyms(recipe.thesaurus, workspace.bundle.synonyms)
    if runtime.grad_checkpointing:
        checkpoint_activations(model)
    texts = pairs.captions, _tokens(pairs, spec.model.name, workspace, runtime), workspace.tokenizer
    vocabulary = CompactVocabulary(model, CaptionTokens.vocabulary(*texts, synonyms))
    captions = CaptionTokens(*texts, vocabulary.compact, synonyms)
    encoder = ClipEncoder(synchronised(model, runtime.device, runtime.ranks), recipe.precision, runtime.device)
    share = -(-min(recipe.batch_size, len(pairs)) // runtime.ranks.count)
    side = factory.image_size(spec.model.name)
    if on_gpu(len(pairs), side, runtime.device):
        pairs.copy_to(runtime.device)
    require_memory(encoder, side, share)
    setup = _setup(spec, recipe, pairs, captions, workspace.bundle, encoder)
    defense = construct(plugin, params, setup, *keys.initial_parts(spec), "defense")
    checkpoint = store.run_dir(cell.key) / _CHECKPOINT
    trainer = Trainer(
        spec,
        recipe,
        pairs,
        captions,
        encoder,
        defense,
        checkpoint,
        runtime.progress,
        runtime.stop,
        runtime.checkpoint_seconds,
        _guide(plugin.selects_with(params), cell, pairs, workspace, store, runtime),
        runtime.ranks,
        partial(_classes, vocabulary, workspace),
    )
    return trainer, vocabulary


def _classes(vocabulary: CompactVocabulary, workspace: Workspace, encoder: ClipEncoder) -> torch.Tensor:
    """Zero-shot embeddings of the data set's classes, whose prompts may have words that no caption has."""
    with vocabulary.restored():
        return FrozenClip(encoder, workspace.tokenizer).classifier(workspace.bundle.vocabulary)


def _initial(spec: RunSpec) -> torch.nn.Module:
    """A cell's model before training: with the given weights, or with fresh ones."""
    model = factory.create(spec.model.name, keys.seed_of(*keys.initial_parts(spec)))
    if spec.model.weights:
        pretrained.load_weights(model, spec.model.name, spec.model.weights)
    return model


def _more_provenance(spec: RunSpec, runtime: Runtime) -> dict[str, object]:
    """Tag or file name of the given weights, and whether algorithms are deterministic."""
    given = {"pretrained": pretrained.name_of(spec.model.weights)} if spec.model.weights else {}
    return given | ({"deterministic": True} if runtime.deterministic else {})


def clip_budget(store: Store, spec: RunSpec) -> Budget:
    """The steps and pairs that a trained cell spent on the CLIP loss. Raises UserError if its record has no such counts."""
    key = keys.run_key(spec)
    record = store.run_record(key)
    curves = record.curves if record else []
    if any(curve.clip_steps is None for curve in curves):
        file = store.run_dir(key) / "run.json"
        raise UserError(f"{file} has no counts of CLIP-loss steps, which controls need: delete it to train the cell again")
    pairs = [curve.clip_pairs or 0 for curve in curves if curve.clip_steps]
    if not pairs:
        raise RuntimeError("the defended cell took no step of the CLIP loss")
    return Budget(sum(curve.clip_steps or 0 for curve in curves), round(sum(pairs) / len(pairs)))


def write_untrained(spec: RunSpec, store: Store) -> None:
    """Write a cell's initial weights in place of trained ones, to profile the cells that depend on it."""
    model = _initial(spec)
    with atomic_write(store.run_dir(keys.run_key(spec)) / WEIGHTS) as stream:
        stream.write(factory.weights_bytes(model))


def _guide(
    name: Guide | None, cell: Cell, pairs: PoisonedPairs, workspace: Workspace, store: Store, runtime: Runtime
) -> Callable[[], PairScorer] | None:
    """A loader of the model that a defense selects pairs with; None if it selects none."""
    if name is None:
        return None

    def load() -> PairScorer:
        precision = cell.spec.train.precision
        if cell.guide is None:
            encoder, tokenize = pretrained.load(name, precision, runtime.device)
            tokens = _tokens(pairs, name.partition(":")[0], workspace, runtime)
        else:
            encoder, tokenize = trained_encoder(cell.guide, store, precision, runtime.device), workspace.tokenizer
            tokens = _tokens(pairs, cell.guide.model.name, workspace, runtime)
        captions = CaptionTokens(pairs.captions, tokens, tokenize, lambda ids: ids, thesaurus.synonyms("none", {}))
        return PairScorer(encoder, pairs, captions, runtime.stop)

    return load


def _tokens(pairs: PoisonedPairs, model: str, workspace: Workspace, runtime: Runtime) -> TokenRows:
    clean = workspace.train_tokens(model, runtime.progress.tokenised)
    return pairs.captions.tokens(clean, factory.tokenizer(model))


def trained_encoder(spec: RunSpec, store: Store, precision: str, device: torch.device) -> ClipEncoder:
    """The trained model of a cell."""
    model = factory.create(spec.model.name, 0)
    factory.load_weights(model, store.run_dir(keys.run_key(spec)) / WEIGHTS)
    return ClipEncoder(model, precision, device)


def _seconds(store: Store, spec: RunSpec) -> float:
    """Seconds of training a cell and all that it depends on."""
    record = store.run_record(keys.run_key(spec))
    assert record, "a cell is trained after its dependencies"
    return sum(record.timing.stages.values()) + (record.timing.builds_on_seconds or 0.0)


def _setup(
    spec: RunSpec,
    recipe: TrainSpec,
    pairs: PoisonedPairs,
    captions: CaptionTokens,
    bundle: DatasetBundle,
    encoder: ClipEncoder,
) -> TrainSetup:
    """What the defense may know. Of its functions only `named` and `elements`, which read captions, can reach the poison."""
    order = keys.order_parts(spec, pairs.digest)
    seed = keys.seed_of(*order, "defense")
    trusted = pairs.trusted(keys.generator(*order, "trusted"))
    return TrainSetup(
        pairs=len(pairs),
        epochs=recipe.epochs,
        lr=recipe.lr,
        batch_size=recipe.batch_size,
        embed_dim=factory.config(spec.model.name)["embed_dim"],
        trunk_dim=encoder.trunk_dim(factory.image_size(spec.model.name)),
        device=encoder.device,
        rng=lambda purpose: keys.generator(seed, purpose),
        trusted=trusted.draw,
        labels=trusted.labels,
        named=lambda: pairs.named(bundle.vocabulary),
        classes=len(bundle.vocabulary.names),
        elements=lambda: elements(pairs.captions, bundle, captions.texts).to(encoder.device),
    )


def _poison_summary(spec: RunSpec, workspace: Workspace) -> schema.PoisonSummary | None:
    if spec.attack is None:
        return None
    _, plan, _ = workspace.poison(spec)
    added = sum(poison.split == "holdout" for poison in plan.poisons)
    return schema.PoisonSummary(
        hash=plan.hash(),
        added=added,
        replaced=len(plan.poisons) - added,
        targets=list(plan.targets),
        captions=[poison.caption for poison in plan.poisons[:5]],
    )


def write_manifest(spec: RunSpec, workspace: Workspace, store: Store) -> None:
    """Write the poison manifest of a cell, poison.json; nothing without an attack."""
    if spec.attack is not None:
        _, plan, _ = workspace.poison(spec)
        write_json(store.run_dir(keys.run_key(spec)) / "poison.json", {"hash": plan.hash(), **plan.manifest()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
