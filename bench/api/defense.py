"""The contract of defenses: what one changes about how a CLIP is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bench.meaning import Meaning

from .limit import Limit
from .plugin import Params, Plugin

ImageView = Literal["plain", "light", "strong"]
TextView = Literal["plain", "eda"]
Guide = Literal["undefended", "clean"] | str
"""A model to filter with: plain CLIP of the same cell, the same trained without poison, or MODEL:WEIGHTS of open_clip."""


class Encoder(Protocol):
    """A CLIP on its device. Embeddings are float32 (n, d) and of unit length.

    Where several processes train together it takes the rows of a batch's view that this process has, all of them, and returns
    the embeddings of the whole batch.
    """

    @property
    def logit_scale(self) -> torch.Tensor:
        """exp of the learned log scale, 1/temperature, at most 100; a scalar with gradient."""
        ...

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 (n, 3, side, side) in [0, 1]."""
        ...

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int64 (n, length)."""
        ...

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """What the projection into the joint space is made of: float32 (n, `TrainSetup.trunk_dim`), not normalised.

        Of a ViT the pooled token, of a residual network the mean over places of its last stage. Images as in `encode_image`.
        """
        ...


@dataclass(frozen=True)
class TrainRecipe:
    """The recipe's training options, before a defense replaces some."""

    pairs: int
    epochs: int
    lr: float
    batch_size: int


@dataclass(frozen=True)
class TrainSetup:
    """What a defense may know about a run; whether a pair is poisoned is not among it.

    For defenses that assume clean data: `trusted(count)` gives that many pairs known to be clean, int64 (count,), and
    `labels(pairs)` the class in the data set's vocabulary (of `classes` classes) that each shows, int64, -1 where unknown.
    Trusted pairs are the same in every call: fewer are a part of more. ValueError where they would be more than half of all
    pairs, and where labels are asked of a pair that `trusted` did not give.
    For those with a head of their own: `embed_dim` is the width of embeddings, `trunk_dim` of what `Encoder.trunk` gives.
    For those that take captions for labels: `named()` gives the first class of the vocabulary that each pair's caption
    mentions in whole words, int64 (pairs,), -1 where it mentions none.
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


@dataclass(frozen=True)
class Phase:
    """A pass over some pairs within an epoch.

    `indices` None means all pairs. `image_views`/`text_views` name the views that a batch carries, in order: an image as it is,
    lightly cropped (option train.crop) or strongly augmented (SimCLR's pipeline); a caption as it is or changed by EDA (option
    train.eda_alpha). Each mention of a view is a draw of its own.
    `lr` None follows the run's schedule, times `lr_share`; a number is held constant.
    `clip_loss` says whether its steps are of the kind that plain CLIP takes: controls take as many, on as many pairs. It is
    False where the loss is another, and where the rate is so low that a step hardly teaches.
    """

    name: str = "train"
    indices: NDArray[np.int64] | None = None
    image_views: tuple[ImageView, ...] = ("light",)
    text_views: tuple[TextView, ...] = ("plain",)
    lr: float | None = None
    lr_share: float = 1.0
    clip_loss: bool = True


@dataclass(frozen=True)
class Budget:
    """What a defended cell spent on phases with `Phase.clip_loss`: steps in all, and distinct pairs in an epoch that has such
    steps, the mean over those epochs, rounded.
    """

    steps: int
    pairs: int


@dataclass(frozen=True)
class Batch:
    """Pairs of one step, on the device: indices int64 (n,) into the training set, and one tensor a view.

    Where several processes train together, views hold this process's rows and `indices` those of all: encode views whole, and
    choose among embeddings.
    """

    indices: torch.Tensor
    images: tuple[torch.Tensor, ...]
    texts: tuple[torch.Tensor, ...]


class Scorer(Protocol):
    """Embeds training pairs, unaugmented and without gradient."""

    def similarities(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Cosine similarity of image and caption of the given pairs (all by default): float32 (n,)."""
        ...

    def embeddings(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and text embeddings of the given pairs: float32 (n, d) each, unit rows."""
        ...


class Defense(Plugin):
    """A defense. Only `loss` must be given; everything else defaults to plain CLIP training.

    Every nn.Module and nn.Parameter that it holds once `__init__` is done, in an attribute or in a list, tuple, dict or plain
    object there, is trained beside the encoder and kept over an interruption; `requires_grad_(False)` leaves it as it is. In
    `__init__` all global generators follow from model and seed. A loss whose gradient reaches anything else is an error.
    """

    def __init__(self, params: Params, setup: TrainSetup) -> None:
        self.params = params
        self.setup = setup

    @classmethod
    def starts_from(cls) -> str | None:
        """The defense whose trained model of the same cell this one starts from; None starts from fresh weights."""
        return None

    @classmethod
    def selects_with(cls, params: Any) -> Guide | None:
        """The model through which `select` sees the pairs; None: all pairs are trained on, without a selection."""
        return None

    @classmethod
    def control(cls, budget: Budget) -> dict[str, Any] | None:
        """For a control, which is planned beside defended cells: its parameters, by what such a cell spent. None: a defense."""
        return None

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        """Options of `train` that this defense replaces, such as epochs or lr of a fine-tuning."""
        return {}

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        """Between what numbers of `telemetry` lie where the defense engages; outside, the report says that it did not."""
        return ()

    @classmethod
    def meaning(cls, params: Any) -> Meaning:
        """What numbers of `telemetry` mean, for reports to draw."""
        return Meaning()

    def select(self, scorer: Scorer) -> None:
        """Called once, before the first epoch, with the model of `selects_with`; what is chosen is part of `state_dict`."""

    @abstractmethod
    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        """The scalar training loss of one step."""

    def phases(self, epoch: int) -> Sequence[Phase]:
        """The passes of an epoch, counted from 0."""
        return (Phase(),)

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        """Called at the start of every epoch, before `phases`."""

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        """Called at the end of every epoch."""

    def state_dict(self) -> dict[str, Any]:
        """What else must survive an interruption: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""

    def observed(self) -> dict[str, NDArray[Any]]:
        """What the defense holds of every pair, for telemetry.

        "safe" bool (pairs,); "similarity" of image and caption, float32 (pairs,); "image_neighbour" and "text_neighbour", the
        pair whose embedding last stood in for this one's in the epoch that just ended, int64 (pairs,), -1 for none;
        "reference", the set of pairs among which this one was scored, int64 (pairs,).
        """
        return {}

    def scores(self) -> NDArray[np.float32] | None:
        """How suspicious each pair is, for measuring detection: float32 (pairs,), higher is more, NaN where it was not scored.

        Asked once, after the last epoch; None where the defense does not score pairs. Whichever pairs it trusts at its own
        threshold are "safe" in `observed`.
        """
        return None

    def telemetry(self) -> dict[str, float]:
        """Numbers about the epoch that just ended."""
        return {}
