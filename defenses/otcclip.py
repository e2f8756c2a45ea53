"""OTCCLIP: captions from a pool, matched part by part."""

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
    candidates: int = Field(default=16, ge=1, description="captions, nearest by embedding, that transport chooses among")
    alignment: float = Field(default=0.1, ge=0, description="weight of the transport losses between and within modalities")
    epsilon: float = Field(default=0.05, gt=0, description="strength of the transport's entropy")
    iterations: int = Field(default=10, ge=1, description="Sinkhorn's iterations")


@register_defense("otcclip")
class OTCCLIP(RoCLIP):
    """RoCLIP that matches images with captions by optimal transport of their parts (Zhang et al. 2025, EMNLP).

    An image is the set of its places' embeddings, a caption that of its tokens'; their distance is entropic optimal transport
    at the cost 1 - cosine. In every K-th epoch each image takes the caption of a pool at the least distance. The loss is CLIP's
    plus `alignment` times the distances of image to caption, and of both to an augmented view of their own.
    All of it is as reconstructed from the abstract: no code is public. Choices of this project are the weight, the entropy, the
    iterations, and that transport chooses among the `candidates` nearest captions by embedding alone. Pool, epochs and rate are
    RoCLIP's; captions enter the pool in every epoch, since a pool of parts cannot be filled from embeddings. It takes 4 d bytes
    a token in the pool, and a second view of each side.
    """

    citations = ("zhang2025otcclip", "yang2023roclip")
    version = "1"
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
        """Which row of the pool is nearest to each image: int64 (n,)."""
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
