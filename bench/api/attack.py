"""The contract of attacks: what is poisoned is decided once, written down, and the same for every defense."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from bench.canonical import canonical

from .data import DatasetBundle
from .plugin import Params, Plugin

Edit = dict[str, int | float | str]


class AttackParams(Params):
    rate: float = Field(gt=0, lt=1, description="poisoned pairs as a share of the clean pre-training set")


class Poison(BaseModel):
    """One poisoned pair: image `index` of `split`, edited if `edit` is given, with `caption`.

    A poison of a held-out image is added to the training set; a poison of a training image replaces that pair.
    """

    model_config = ConfigDict(frozen=True)
    split: Literal["train", "holdout"]
    index: int
    uid: str
    caption: str
    target: int
    edit: Edit | None = None


class PoisonPlan(BaseModel):
    """All that an attack decided: plain data, the same bytes for every defense.

    `tensors` holds arrays the pixel function needs (trigger patterns, warp fields, perturbations); the manifest carries
    their digests. `planned` is the digest of what was chosen before `craft`.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    attack: str
    targets: tuple[str, ...]
    poisons: tuple[Poison, ...]
    tensors: dict[str, torch.Tensor] = Field(default_factory=dict, exclude=True)
    planned: str = Field(default="", exclude=True)

    def manifest(self) -> dict[str, object]:
        """The plan as JSON data, tensors by the sha256 of their bytes."""
        digests = {name: _digest(tensor) for name, tensor in sorted(self.tensors.items())}
        return {**self.model_dump(mode="json"), "tensors": digests}

    def hash(self) -> str:
        """sha256 of the canonical manifest."""
        return _sha256(self.manifest())

    def chosen(self) -> str:
        """sha256 of the choice of images, captions and targets before `craft`, so that it is the same on every machine."""
        return self.planned or _sha256(self.model_dump(mode="json"))


def _sha256(data: object) -> str:
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    header = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(header + tensor.contiguous().cpu().numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Probe:
    """One evaluation image: edited as in training, a success when classified as class `label`. `group` names the trigger."""

    split: Literal["holdout", "test"]
    index: int
    label: int
    edit: Edit | None = None
    group: str = "all"


@dataclass(frozen=True)
class Query:
    """One evaluation text: a success when the images that are retrieved for it show class `label`. `group` as of a probe."""

    text: str
    label: int
    group: str = "all"


@dataclass(frozen=True)
class AttackContext:
    """What an attack may use. `rng(purpose)` is a generator that depends on data, attack and seed, never on the defense."""

    bundle: DatasetBundle
    rng: Callable[[str], np.random.Generator]


class Surrogate(Protocol):
    """A trained model that an attack may optimise against; parameters are frozen, gradients reach the pixels."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (n, 3, side, side) in [0, 1] -> unit embeddings float32 (n, d)."""
        ...

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit embeddings float32 (n, d), without gradient."""
        ...


class Attack(Plugin):
    """An attack: which pairs are poisoned, how pixels change, and on which images success is measured.

    `mismatched`: held-out images are paired with captions of a class that they do not show. `writes`: its captions are its own,
    not those of the data. `on_captions`: it plants a trigger in captions, so that it has queries and no probes.
    """

    mismatched: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    on_captions: ClassVar[bool] = False

    Params = AttackParams

    def __init__(self, params: AttackParams) -> None:
        self.params = params

    @abstractmethod
    def plan(self, ctx: AttackContext) -> PoisonPlan:
        """Choose images, captions and targets. Raises UserError when the request cannot be met."""

    def needs_surrogate(self) -> bool:
        """Whether `craft` needs a model."""
        return False

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        """Complete the plan with what takes a model: tensors, and captions of the poisons, which stay the same otherwise.

        `surrogate` is the clean model of the same seed.
        """
        return plan

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        """uint8 (n, 3, side, side) -> the same shape, edited; pure, and row by row independent of the batch."""
        return images

    @abstractmethod
    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        """The evaluation images; none shows an object of the class it shall be taken for. Of attacks on captions, none."""

    def queries(self, ctx: AttackContext, plan: PoisonPlan) -> list[Query]:
        """The evaluation texts of an attack on captions; none of an attack on images."""
        return []
