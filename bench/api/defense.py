"""The API of defenses: how the training of a CLIP model is changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bench.meaning import Meaning

from .encoder import Encoder, Scorer
from .limit import Limit
from .plugin import Params, Plugin

ImageView = Literal["plain", "light", "strong"]
TextView = Literal["plain", "eda"]
Guide = Literal["undefended", "clean"] | str
"""The model to select pairs with: plain CLIP of the same cell, the same without poison, or MODEL:WEIGHTS of open_clip."""


@dataclass(frozen=True)
class TrainRecipe:
    """The training options of the recipe, before those that a defense replaces."""

    pairs: int
    epochs: int
    lr: float
    batch_size: int


@dataclass(frozen=True)
class Elements:
    """What captions say that images show, in words of the data set's elements.

    Attributes
    ----------
    tokens : int64 (elements, length)
        The text of each element, for `Encoder.encode_prompts`.
    mentioned : int64 (pairs, most)
        The elements that each caption mentions in whole words, -1 after the last.
    """

    tokens: torch.Tensor
    mentioned: torch.Tensor

    def to(self, device: torch.device) -> Elements:
        return Elements(self.tokens.to(device), self.mentioned.to(device))


@dataclass(frozen=True)
class TrainSetup:
    """What a defense may know about a run; it cannot tell which pairs are poisoned.

    Attributes
    ----------
    pairs : int
        Number of training pairs.
    epochs, lr, batch_size
        Training options, with those that the defense replaces.
    embed_dim, trunk_dim : int
        Width of embeddings, and of `Encoder.trunk`.
    device : torch.device
    rng : callable
        `rng(purpose)` is a random generator of the run.
    trusted : callable
        `trusted(count)` gives indices int64 (count,) of pairs known to be clean, for defenses that assume some. The first
        pairs are the same in every call. Raises ValueError for more than half of all pairs.
    labels : callable
        `labels(pairs)` gives the classes int64 (n,) that trusted pairs show, -1 if unknown. Raises ValueError for a pair that
        `trusted` has not given.
    named : callable
        `named()` gives for each pair the first class that its caption mentions in whole words, int64 (pairs,), -1 if none.
    classes : int
        Number of classes in the data set's vocabulary.
    elements : callable
        `elements()` gives the `Elements` that any caption mentions, on the device.
    """

    pairs: int
    epochs: int
    lr: float
    batch_size: int
    embed_dim: int
    trunk_dim: int
    device: torch.device
    rng: Callable[[str], np.random.Generator]
    trusted: Callable[[int], NDArray[np.int64]]
    labels: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    named: Callable[[], NDArray[np.int64]]
    classes: int
    elements: Callable[[], Elements]


@dataclass(frozen=True)
class Phase:
    """A pass over some of the pairs within an epoch.

    Attributes
    ----------
    name : str
    indices : ndarray of int64, optional
        The pairs; None is all.
    image_views : tuple of {"plain", "light", "strong"}
        The image views in a batch, in order: unaugmented, lightly cropped (train.crop), or SimCLR's augmentation. Each is drawn
        independently.
    text_views : tuple of {"plain", "eda"}
        The caption views: unchanged, or augmented by EDA (train.eda_alpha).
    lr : float, optional
        A constant learning rate; None follows the run's schedule.
    lr_share : float
        Factor of the schedule.
    eval_norm : bool
        Batch normalisation uses its running statistics, as in evaluation, and does not update them.
    clip_loss : bool
        Whether its steps count as CLIP training, of which controls take as many, on as many pairs. False for another loss, or a
        learning rate too low to matter.
    """

    name: str = "train"
    indices: NDArray[np.int64] | None = None
    image_views: tuple[ImageView, ...] = ("light",)
    text_views: tuple[TextView, ...] = ("plain",)
    lr: float | None = None
    lr_share: float = 1.0
    eval_norm: bool = False
    clip_loss: bool = True


@dataclass(frozen=True)
class Budget:
    """What a defended cell spent on phases with `Phase.clip_loss`.

    `steps` is their total number, `pairs` the mean number of distinct pairs over epochs that have such steps, rounded.
    """

    steps: int
    pairs: int


@dataclass(frozen=True)
class Batch:
    """The pairs of one step, on the device: indices int64 (n,) into the training set, and one tensor per view.

    On several ranks, views hold this rank's rows and `indices` those of all ranks: encode views whole, and select embeddings
    afterwards.
    """

    indices: torch.Tensor
    images: tuple[torch.Tensor, ...]
    texts: tuple[torch.Tensor, ...]


class Defense(Plugin):
    """Base class of defenses. Only `loss` is required; the defaults of all other methods are plain CLIP training.

    Every nn.Module and nn.Parameter that an instance holds after `__init__`, in an attribute or in a list, tuple, dict or plain
    object there, is trained along with the encoder and checkpointed; `requires_grad_(False)` freezes it. In `__init__` all
    global random generators are seeded by model and seed. Gradient that reaches any other tensor is an error.
    """

    def __init__(self, params: Params, setup: TrainSetup) -> None:
        self.params = params
        self.setup = setup

    @classmethod
    def starts_from(cls) -> str | None:
        """The defense whose trained model of the same cell this one starts from; None trains from scratch."""
        return None

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        """The model that `select` scores the pairs with; None trains on all pairs, without a selection."""
        return None

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        """The parameters of a control, given what the defended cell spent; None if this is a defense."""
        return None

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        """Options of `train` that this defense replaces, such as the epochs or lr of a fine-tuning."""
        return {}

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        """Ranges of `telemetry` numbers outside of which the report says that the defense did not engage."""
        return ()

    @classmethod
    def meaning(cls, params: Any) -> Meaning:
        """The meaning of numbers in `telemetry`, for reports."""
        return Meaning()

    def select(self, scorer: Scorer) -> None:
        """Select pairs, once before the first epoch, with the model of `selects_with`; keep the result in `state_dict`."""

    @abstractmethod
    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        """The training loss of one step, a scalar."""

    def phases(self, epoch: int) -> Sequence[Phase]:
        """The phases of an epoch, which is counted from 0."""
        return (Phase(),)

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        """Called at the start of every epoch, before `phases`."""

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        """Called at the end of every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Further state to checkpoint: tensors, numbers, strings, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""

    def observed(self) -> dict[str, NDArray[Any]]:
        """What the defense knows of every pair, for telemetry.

        Returns
        -------
        dict of str to ndarray of shape (pairs,)
            safe : bool, whether the pair is in the safe set.
            similarity : float32, cosine similarity of image and caption.
            image_neighbour, text_neighbour : int64, the pair whose embedding last replaced this one's in the epoch that just
            ended, -1 for none.
            reference : int64, the number of the set of pairs among which the pair was scored.
        """
        return {}

    def scores(self) -> NDArray[np.float32] | None:
        """How suspicious each pair is, for measuring detection: float32 (pairs,), higher is more, NaN where it was not scored.

        Asked once, after the last epoch; None if the defense does not score pairs. Whichever pairs it trusts at its own
        threshold are "safe" in `observed`.
        """
        return None

    def telemetry(self) -> dict[str, float]:
        """Numbers about the epoch that just ended."""
        return {}
