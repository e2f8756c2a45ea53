"""InverTune: inverts a trigger of the poisoned CLIP, and tunes away the activations that it causes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from bench.api import Batch, Encoder, Limit, Params, Phase, Scorer, TrainRecipe, TrainSetup
from bench.defenses.clip import CLIP
from bench.defenses.inversion import Trigger, Victim
from bench.defenses.neurons import affected_neurons, misalignment
from bench.registry import register_defense


class InverTuneParams(Params):
    clean: float = Field(default=1 / 30, gt=0, le=1, description="trusted clean pairs, as a share of the training pairs")
    steps: int = Field(default=200, ge=1, description="steps of tuning, in whole epochs")
    batch_size: int = Field(default=64, ge=2, description="batch size of all steps")
    lr: float = Field(default=0.004, gt=0, description="peak learning rate, as a share of the recipe's")
    weight_decay: float = Field(default=1e-4, ge=0, description="weight decay of AdamW")
    inversion_steps: int = Field(default=1000, ge=1, description="steps of the universal patch, and of the inversion")
    stages: int = Field(default=3, ge=1, description="number of stages to tune, those that the trigger changes most")
    keep: float = Field(default=0.5, ge=0, description="weight of the distance from the embeddings before tuning")


@register_defense("invertune")
class InverTune(CLIP):
    """Inverts a trigger of the poisoned CLIP and tunes away the activations it causes (Sun et al. 2025, arXiv 2506.12411).

    1. Target: the class whose share of zero-shot predictions rises most under a universal adversarial patch.
    2. Trigger: a mask and a pattern that minimise 5 CE(predictions, target) + 0.5 distance of embeddings from those of images
       of the target + (1 - SSIM of the images with and without it) + 0.01 |mask|_1.
    3. Tuning: in the stages that the trigger changes most, neurons in the upper of two clusters of the change are aligned: the
       distance of mean activations with and without the trigger over their norm, plus `keep` times the distance of embeddings
       from those before tuning.
    All of it uses trusted images and the class vocabulary alone. Norms are over a batch. Constants are those of the released
    code, the steps of inversion those of its README.

    Deviations:
    - Step 1 as reconstructed: no code makes the patch. It maximises the cosine distance from embeddings without the patch.
    - The class of an image is the one that the model predicts; the released code has labels.
    - Pixels are in [0, 1] for all terms; the released code has normalised ones, also in SSIM.
    - Steps go over all trusted images, where the released code repeats one batch, and the rate falls to 0 in one cosine, where
      it falls and rises. Its gradient clipping is left out.
    - Batch normalisation is in evaluation mode; in the released code each batch, with or without the trigger, is normalised
      by itself.
    - A rate of 2e-6 is taken as a share of CLIP's 5e-4.
    - Trusted pairs as in CleanCLIP.
    """

    citations = ("sun2025invertune",)
    version = "1"
    Params = InverTuneParams
    params: InverTuneParams

    def __init__(self, params: InverTuneParams, setup: TrainSetup) -> None:
        super().__init__(params, setup)
        clean = min(round(params.clean * setup.pairs), params.steps * params.batch_size)
        self._clean: NDArray[np.int64] = setup.trusted(max(1, clean))
        self._row = torch.zeros(setup.pairs, dtype=torch.int64, device=setup.device)
        self._row[torch.from_numpy(self._clean).to(setup.device)] = torch.arange(len(self._clean), device=setup.device)
        self._rng = setup.rng("invertune")
        self._found: dict[str, torch.Tensor] = {}
        self._neurons: dict[int, torch.Tensor] = {}
        self._figures: dict[str, float] = {}

    @classmethod
    def test_params(cls) -> dict[str, Any]:
        return {"clean": 0.25, "steps": 8, "inversion_steps": 4}

    @classmethod
    def starts_from(cls) -> str | None:
        return "clip"

    @classmethod
    def training(cls, params: Any, train: TrainRecipe) -> dict[str, int | float]:
        steps = max(1, min(params.steps, round(params.clean * train.pairs) // params.batch_size))
        return {
            "epochs": max(1, round(params.steps / steps)),
            "batch_size": params.batch_size,
            "lr": params.lr * train.lr,
            "weight_decay": params.weight_decay,
            "warmup_epochs": 0,
        }

    @classmethod
    def limits(cls, params: Any) -> Sequence[Limit]:
        rise = "rise of the identified class's share of predictions under a universal patch"
        images = "share of images that the inverted trigger takes to the target class"
        return (
            Limit("target_rise", "first", rise, "no class stands out, so the target is a guess", low=0.2),
            Limit("inverted_asr", "first", images, "raise inversion_steps, or take more trusted pairs", low=0.5),
            Limit("remaining_asr", "last", f"{images} after tuning", "raise lr or steps", high=0.5),
        )

    def before_epoch(self, epoch: int, scorer: Scorer) -> None:
        if self._found:
            return
        self._found = {"start": scorer.embeddings(self._clean)[0], "classes": scorer.classes()}
        with scorer.frozen() as model:
            victim = self._victim(model, scorer)
            target = self._identify(victim)
            similar = self._found["start"] @ victim.classes[target]
            goals = self._found["start"][(self._predicted == target) | (similar == similar.max())]
            self._found["target"] = torch.tensor(target)
            others = self._others
            trigger = victim.trigger(others, target, goals, self.params.inversion_steps)
            self._found |= {"mask": trigger.mask, "pattern": trigger.pattern}
            self._figures["mask_size"] = float(trigger.mask.mean())
            self._figures["inverted_asr"] = victim.success(others, trigger, target)
            self._neurons = affected_neurons(model, victim.draw(self._clean), trigger, self.params.stages)

    def _victim(self, model: Encoder, scorer: Scorer) -> Victim:
        return Victim(model, scorer.images, self._found["classes"], self.params.batch_size, self._rng)

    def _identify(self, victim: Victim) -> int:
        """The class whose share of predictions rises most under a universal patch."""
        patch = victim.patch(self._clean, self.params.inversion_steps)
        before, after = (
            each.bincount(minlength=len(victim.classes)) for each in (self._predicted, victim.predictions(self._clean, patch))
        )
        rises = (after - before) / len(self._clean)
        self._figures["target_rise"] = float(rises.max())
        return int(rises.argmax())

    @property
    def _predicted(self) -> torch.Tensor:
        """The classes that trusted images were taken for before tuning: int64 (n,)."""
        return (self._found["start"] @ self._found["classes"].T).argmax(dim=1)

    @property
    def _others(self) -> NDArray[np.int64]:
        """Trusted images of other classes than the target; all, if there are none."""
        others = self._clean[(self._predicted != self._found["target"].to(self.setup.device)).cpu().numpy()]
        return others if len(others) else self._clean

    @property
    def _trigger(self) -> Trigger:
        return Trigger(self._found["mask"], self._found["pattern"])

    def phases(self, epoch: int) -> Sequence[Phase]:
        return (Phase("tune", self._clean, ("plain",), (), eval_norm=True, clip_loss=False),)

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        embeddings, clean = encoder.stages(batch.images[0])
        _, stamped = encoder.stages(self._trigger.stamp(batch.images[0]))
        parts = [misalignment(clean[stage], stamped[stage], neurons) for stage, neurons in self._neurons.items()]
        moved = torch.linalg.vector_norm(embeddings - self._found["start"][self._row[batch.indices]])
        return torch.stack([self.params.keep * moved, *parts]).sum()

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        with scorer.frozen() as model:
            success = self._victim(model, scorer).success(self._others, self._trigger, int(self._found["target"]))
        self._figures["remaining_asr"] = success

    def telemetry(self) -> dict[str, float]:
        return dict(self._figures)

    def state_dict(self) -> dict[str, Any]:
        return {"found": self._found, "neurons": self._neurons, "figures": self._figures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._found, self._neurons = (
            {name: each.to(self.setup.device) for name, each in state[part].items()} for part in ("found", "neurons")
        )
        self._figures = dict(state["figures"])
