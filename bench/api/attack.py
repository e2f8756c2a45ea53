"""The API of attacks. The poison is chosen once, recorded in a manifest, and is the same for every defense."""

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
    """One poisoned pair.

    Attributes
    ----------
    split : {"train", "holdout"}
        A poisoned training image replaces its pair; a held-out image is added to the training set.
    index : int
        Position of the image in the split.
    uid : str
        Id of the image.
    caption : str
        The caption of the poisoned pair.
    target : int
        The target class, an index into the bundle's vocabulary.
    edit : dict, optional
        Arguments of the pixel function `Attack.apply`; None leaves the image as it is.
    """

    model_config = ConfigDict(frozen=True)
    split: Literal["train", "holdout"]
    index: int
    uid: str
    caption: str
    target: int
    edit: Edit | None = None


class PoisonPlan(BaseModel):
    """Everything that an attack chose, as plain data: the same bytes for every defense.

    `tensors` are arrays that the pixel function needs (trigger patterns, warp fields, perturbations); the manifest has their
    digests. `planned` is the digest of what was chosen before `craft`.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    attack: str
    targets: tuple[str, ...]
    poisons: tuple[Poison, ...]
    tensors: dict[str, torch.Tensor] = Field(default_factory=dict, exclude=True)
    planned: str = Field(default="", exclude=True)

    def manifest(self) -> dict[str, object]:
        """The plan as JSON data, with the sha256 of each tensor."""
        digests = {name: _digest(tensor) for name, tensor in sorted(self.tensors.items())}
        return {**self.model_dump(mode="json"), "tensors": digests}

    def hash(self) -> str:
        """sha256 of the canonical manifest."""
        return _sha256(self.manifest())

    def chosen(self) -> str:
        """sha256 of the images, captions and targets chosen before `craft`, so that it is the same on every machine."""
        return self.planned or _sha256(self.model_dump(mode="json"))


def _sha256(data: object) -> str:
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    header = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(header + tensor.contiguous().cpu().numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Probe:
    """One evaluation image, edited as in training; the attack succeeds if it is classified as `label`.

    `group` names the trigger, where an attack has several.
    """

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


def _to_the_end(texts: Sequence[str]) -> list[bool]:
    return [True] * len(texts)


@dataclass(frozen=True)
class AttackContext:
    """What an attack may use.

    Attributes
    ----------
    bundle : DatasetBundle
        The data.
    rng : callable
        Gives a generator for a purpose, seeded by data, attack and seed, never by the defense.
    reads : callable
        Whether the model reads each of n texts to its end: its context is so long, and what comes later is cut off.
    """

    bundle: DatasetBundle
    rng: Callable[[str], np.random.Generator]
    reads: Callable[[Sequence[str]], list[bool]] = _to_the_end


class Surrogate(Protocol):
    """A trained model that an attack may optimise against. Its parameters are frozen; gradients reach the pixels."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (n, 3, side, side) in [0, 1] -> unit embeddings float32 (n, d)."""
        ...

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit embeddings float32 (n, d), without gradient."""
        ...


class Attack(Plugin):
    """Base class of attacks: which pairs are poisoned, how pixels change, and which images success is measured on.

    `mismatched` says that held-out images are paired with captions of a class that they do not show, `writes` that captions
    are its own and not those of the data, `on_captions` that it plants a trigger in captions: it has queries and no probes.
    """

    mismatched: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    on_captions: ClassVar[bool] = False

    Params = AttackParams

    def __init__(self, params: AttackParams) -> None:
        self.params = params

    @abstractmethod
    def plan(self, ctx: AttackContext) -> PoisonPlan:
        """Choose images, captions and targets. Raises UserError if the data set does not allow it."""

    def needs_surrogate(self) -> bool:
        """Whether `craft` needs a surrogate model."""
        return False

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        """Complete the plan by optimising against `surrogate`, the clean model of the same seed.

        Tensors and the captions of the poisons may change, nothing else.
        """
        return plan

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        """Edit images: uint8 (n, 3, side, side), on the CPU -> the same. Pure; each row is independent of the others."""
        return images

    @abstractmethod
    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        """The evaluation images, none of which shows the class that it should be taken for; none for attacks on captions."""

    def queries(self, ctx: AttackContext, plan: PoisonPlan) -> list[Query]:
        """The evaluation texts of an attack on captions; none of an attack on images."""
        return []
