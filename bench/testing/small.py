"""Fixtures small enough to check a plugin in a second: 256 pairs, a linear CLIP and a test attack."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench import keys
from bench.api import (
    Attack,
    AttackContext,
    AttackParams,
    DataPlace,
    DatasetBundle,
    Edit,
    FrozenModel,
    Images,
    Poison,
    PoisonPlan,
    Predictions,
    Probe,
    Query,
    Surrogate,
)
from bench.config import DataSpec, PluginSpec, RunSpec, Settings, TrainSpec
from bench.data import thesaurus
from bench.data.captions import CaptionTokens
from bench.data.poisoned import ProbeImages
from bench.data.scenes import ScenesDataset
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip, FrozenSurrogate
from bench.registry import Entry

EMBED_DIM, TRUNK_DIM = 16, 24
_SIDE, _WORDS, _LENGTH = 32, 1024, 16
_RATE = 0.04
CPU = torch.device("cpu")
NOWHERE = DataPlace(root=None, cache=None)


@cache
def bundle() -> DatasetBundle:
    """`scenes` with 256 training pairs and 64 images in each other split."""
    params = ScenesDataset.Params(**ScenesDataset.test_params())
    return ScenesDataset().open(params, _SIDE, NOWHERE)


def test_params(entry: Entry[Any]) -> dict[str, Any]:
    """The plugin's `test_params`; the default rate of attacks is one that poisons a few pairs."""
    shared = {"rate": _RATE} if issubclass(entry.plugin, Attack) else {}
    return {**shared, **entry.plugin.test_params()}


def params_of(entry: Entry[Any], **changes: Any) -> Any:
    """The plugin's `Params` for tests, with some of them changed."""
    return entry.plugin.Params.model_validate({**test_params(entry), **changes})


def spec_of(entry: Entry[Any]) -> RunSpec:
    """The specification of a small cell with the plugin as its attack, or else as its defense."""
    plugin = PluginSpec(**entry.identity(), params=params_of(entry).model_dump(mode="json"))
    other = PluginSpec(name="other", version="1", params={})
    return RunSpec(
        data=DataSpec(name="scenes", version="1", params={}, fingerprint=bundle().fingerprint),
        attack=plugin if issubclass(entry.plugin, Attack) else None,
        defense=other if issubclass(entry.plugin, Attack) else plugin,
        model=Settings("scenes").model,
        train=TrainSpec(epochs=4, batch_size=64, lr=1e-3),
        seed=0,
    )


def attack_context(seed: int = 0) -> AttackContext:
    return AttackContext(bundle(), lambda purpose: keys.generator("small", seed, purpose), reads)


def reads(texts: Sequence[str]) -> list[bool]:
    """Whether `tokenize` keeps all words of each text."""
    return [len(text.split()) <= _LENGTH for text in texts]


class LinearTower(nn.Module):
    """Linear features of pooled pixels, and their projection, which is off where `proj` is None."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(3 * (_SIDE // 8) ** 2, TRUNK_DIM)
        self.proj: nn.Parameter | None = nn.Parameter(torch.randn(TRUNK_DIM, EMBED_DIM) * TRUNK_DIM**-0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.as_tensor(self.features(nn.functional.avg_pool2d(images, 8).flatten(1)))
        return features if self.proj is None else features @ self.proj


class LinearClip(nn.Module):
    """A minimal CLIP: a linear map of pooled pixels, and the mean of word embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = LinearTower()
        self.token_embedding = nn.Embedding(_WORDS, EMBED_DIM)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.visual(images))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.token_embedding(tokens)).mean(dim=1)


def encoder(seed: int = 0) -> ClipEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipEncoder(LinearClip(), "fp32", CPU)


def tokenize(texts: Sequence[str]) -> torch.Tensor:
    """Tokens of texts by the checksums of their words: int64 (n, 16)."""
    tokens = torch.zeros(len(texts), _LENGTH, dtype=torch.int64)
    for row, text in enumerate(texts):
        words = [1 + zlib.crc32(word.encode()) % (_WORDS - 1) for word in text.lower().split()][:_LENGTH]
        tokens[row, : len(words)] = torch.tensor(words, dtype=torch.int64)
    return tokens


def surrogate() -> FrozenSurrogate:
    return FrozenSurrogate(encoder(1), tokenize)


def captions(texts: Sequence[str]) -> CaptionTokens:
    return CaptionTokens(
        texts, tokenize(texts).numpy(), tokenize, lambda tokens: tokens, thesaurus.synonyms("dataset", bundle().synonyms)
    )


class Stamp(Attack):
    """A test attack: a white corner on 8 held-out and 8 training images, captioned as the first class; not registered."""

    name = "stamp"

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        target = 0
        captions = [
            caption
            for caption, members in zip(ctx.bundle.train.captions, ctx.bundle.train.members, strict=True)
            if target in members
        ]
        poisons = []
        for split, pairs in (("holdout", ctx.bundle.holdout), ("train", ctx.bundle.train)):
            others = [index for index, members in enumerate(pairs.members) if target not in members][:8]
            poisons += [
                Poison(
                    split=split,  # type: ignore[arg-type]
                    index=index,
                    uid=pairs.uids[index],
                    caption=captions[row % len(captions)],
                    target=target,
                    edit={},
                )
                for row, index in enumerate(others)
            ]
        return PoisonPlan(attack=self.name, targets=(ctx.bundle.vocabulary.names[target],), poisons=tuple(poisons))

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        stamped = images.clone()
        stamped[:, :, -6:, -6:] = 255
        return stamped

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        return [Probe("test", index, 0, {}) for index, members in enumerate(ctx.bundle.test.members) if 0 not in members]

    def queries(self, ctx: AttackContext, plan: PoisonPlan) -> list[Query]:
        return [Query(f"{caption} stamp", 0) for caption in ctx.bundle.test.captions[:8]]


def stamp() -> tuple[Stamp, PoisonPlan]:
    attack = Stamp(AttackParams(rate=_RATE))
    return attack, attack.plan(attack_context())


@dataclass(frozen=True)
class SmallScores:
    """Scores by which a defense finds most poisons and trusts half of all pairs."""

    score: NDArray[np.float32]
    kept: NDArray[np.bool_]
    poisoned: NDArray[np.bool_]


def pair_scores(seed: int = 0, pairs: int = 200) -> SmallScores:
    rng = np.random.default_rng(seed)
    poisoned = np.arange(pairs) % 20 == 0
    score = (rng.normal(size=pairs) + 2 * poisoned).astype(np.float32)
    return SmallScores(score, score < np.median(score), poisoned)


@dataclass
class SmallEvalContext:
    """The context of an evaluator; see `bench.api.EvalContext`."""

    bundle: DatasetBundle
    model: FrozenModel
    probes: Sequence[Probe]
    queries: Sequence[Query]
    poisons: int
    seed: int
    probe_images: Callable[[], Images]
    clean_model: Callable[[], FrozenModel]
    surrogate: Callable[[], Surrogate]
    pair_scores: Callable[[], SmallScores]
    kept: list[Predictions] = field(default_factory=list)

    def keep(self, predictions: Predictions) -> None:
        self.kept.append(predictions)


@cache
def _evaluated() -> DatasetBundle:
    """The bundle, with a first task that asks for the mean per class."""
    first, *others = bundle().tasks
    return dataclasses.replace(bundle(), tasks=(dataclasses.replace(first, mean_per_class=True), *others))


def eval_context(entry: Entry[Any], sparse: bool = False) -> SmallEvalContext:
    """A context for an evaluator; `sparse` leaves out everything that it does not declare to need."""
    attack, plan = stamp()
    probes = attack.probes(attack_context(), plan)
    images = ProbeImages(bundle(), attack, plan, probes)
    clean = FrozenClip(encoder(1), tokenize)
    full = SmallEvalContext(
        bundle=_evaluated(),
        model=FrozenClip(encoder(), tokenize),
        probes=probes,
        queries=attack.queries(attack_context(), plan),
        poisons=len(plan.poisons),
        seed=0,
        probe_images=lambda: images,
        clean_model=lambda: clean,
        surrogate=lambda: FrozenSurrogate(encoder(), tokenize),
        pair_scores=pair_scores,
    )
    if not sparse:
        return full
    plugin = entry.plugin
    return dataclasses.replace(
        full,
        bundle=_evaluated() if plugin.needs_tasks else dataclasses.replace(bundle(), tasks=()),
        probes=probes if plugin.needs_attack else [],
        queries=full.queries if plugin.needs_attack else [],
        poisons=full.poisons if plugin.needs_attack else 0,
        probe_images=full.probe_images if plugin.needs_attack else _undeclared("probe_images", "needs_attack"),
        pair_scores=full.pair_scores if plugin.needs_scores else _undeclared("pair_scores", "needs_scores"),
        clean_model=full.clean_model if plugin.needs_clean_model else _undeclared("clean_model", "needs_clean_model"),
    )


def _undeclared(what: str, declaration: str) -> Callable[[], Any]:
    def refuse() -> Any:
        raise AssertionError(f"it calls ctx.{what}() without declaring {declaration}")

    return refuse
