"""OTCCLIP: matches images with captions of a pool by optimal transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from bench.api import Batch, Encoder, Phase, Scorer, TrainSetup
from bench.defenses.losses import clip_loss
from bench.defenses.roclip import RoCLIP, RoCLIPParams
from bench.defenses.transport import distance
from bench.registry import register_defense


class OTCCLIPParams(RoCLIPParams):
    candidates: int = Field(default=16, ge=1, description="number of nearest captions among which transport chooses")
    alignment: float = Field(default=0.1, ge=0, description="weight of the transport losses")
    epsilon: float = Field(default=0.05, gt=0, description="weight of the entropy in optimal transport")
    iterations: int = Field(default=10, ge=1, description="number of Sinkhorn iterations")


@register_defense("otcclip")
class OTCCLIP(RoCLIP):
    """RoCLIP with matching by optimal transport between image patches and tokens (Zhang et al. 2025, EMNLP).

    An image is the set of its patch embeddings, a caption that of its token embeddings; their distance is entropic optimal
    transport with cost 1 - cosine similarity. In every K-th epoch each image is paired with the closest caption of a pool. The
    loss is CLIP's plus `alignment` times the distances of image to caption and of each to its augmented view.
    As reconstructed from the abstract; no code is public. Pool, epochs and learning rate are RoCLIP's.

    Deviations:
    - Weight, entropy and iterations are choices of this project, and so is the choice among the `candidates` captions that are
      nearest by embedding.
    - Captions enter the pool in every epoch, since token embeddings are not stored between epochs. The pool takes 4 d bytes a
      token.
    """

    citations = ("zhang2025otcclip", "yang2023roclip")
    version = "2"
    Params = OTCCLIPParams
    params: OTCCLIPParams

    def __init__(self, params: OTCCLIPParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        self._words: torch.Tensor | None = None

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        self._matched.fill_(-1)
        self._match_telemetry = {}

    def phases(self, epoch: int) -> Sequence[Phase]:
        (phase,) = super().phases(epoch)
        return (Phase(phase.name, None, (*phase.image_views, "strong"), (*phase.text_views, "eda")),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        (images, places), (_, other_places) = (encoder.image_parts(view) for view in batch.images)
        (texts, words), (_, other_words) = (encoder.text_parts(view) for view in batch.texts)
        within = (self._distance(places, other_places) + self._distance(words, other_words)).mean() / 2
        own_texts, own_words = texts, words
        if phase.name == "match" and self._words is not None:
            rows = self._nearest(images, places, self._words)
            texts, words = self._pool.embeddings[rows], self._words[rows]
            self._matched[batch.indices] = self._pool.pairs[rows]
        self._push(own_texts, own_words, batch.indices)
        between = self._distance(places, words).mean()
        return clip_loss(images, texts, encoder.logit_scale) + self.params.alignment * (between + within)

    def _distance(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return distance(one, other, self.params.epsilon, self.params.iterations)

    @torch.no_grad()
    def _nearest(self, images: torch.Tensor, places: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """The row of the pool that is nearest to each image: int64 (n,)."""
        held = self._pool.embeddings[: len(self._pool)]
        found = (images @ held.T).topk(min(self.params.candidates, len(held)), dim=1).indices
        apart = torch.stack([self._distance(places, words[rows]) for rows in found.T], dim=1)
        return found.gather(1, apart.argmin(dim=1, keepdim=True))[:, 0]

    @torch.no_grad()
    def _push(self, texts: torch.Tensor, words: torch.Tensor, pairs: torch.Tensor) -> None:
        if self._words is None:
            self._words = words.new_zeros(len(self._pool.embeddings), *words.shape[1:])
        rows = self._pool.push(texts, pairs)
        self._words[rows] = words[-len(rows) :]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | ({} if self._words is None else {"words": self._words})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._words = state["words"].clone().to(self.setup.device) if "words" in state else None
