"""A plugin file for processes of their own: notes gradients and safe sets, and defenses that end in many ways."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import keys
from bench.api import Batch, Encoder, Phase, Scorer
from bench.defenses.clip import CLIP
from bench.defenses.safeclip import SafeCLIP
from bench.registry import register_defense
from bench.training import trainer

RANK = int(os.environ.get("RANK", "0"))
FOLDER = Path(os.environ["NOTES"])
FOLDER.mkdir(parents=True, exist_ok=True)

_step = torch.optim.AdamW.step
_run = trainer.Trainer.run
_cells: list[str] = []


def _note(name: str, line: Any) -> None:
    with (FOLDER / f"{name}.{RANK}").open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def _noted(self: torch.optim.AdamW, closure: None = None) -> None:
    parameters = [parameter for group in self.param_groups for parameter in group["params"]]
    _note(f"gradients-{_cells[-1]}", [None if each.grad is None else float(each.grad.norm()) for each in parameters])
    _step(self, closure)


def _named(self: trainer.Trainer) -> trainer.Trained:
    _cells.append(keys.run_key(self.spec))
    return _run(self)


torch.optim.AdamW.step = _noted  # type: ignore[assignment]
trainer.Trainer.run = _named  # type: ignore[method-assign]


@register_defense("watched")
class Watched(SafeCLIP):
    """SafeCLIP that tells its safe set."""

    def after_epoch(self, epoch: int, scorer: Scorer) -> None:
        super().after_epoch(epoch, scorer)
        _note("safe", np.flatnonzero(self._safe).tolist())


@register_defense("uneven")
class Uneven(CLIP):
    """CLIP with a parameter beside the encoder, and a phase of two pairs."""

    def __init__(self, params: Any, setup: Any) -> None:
        super().__init__(params, setup)
        self._head = torch.nn.Linear(setup.embed_dim, 1, bias=False)
        torch.nn.init.constant_(self._head.weight, 0.1 * (1 + RANK))  # the first one's must win

    def phases(self, epoch: int) -> list[Phase]:
        return [Phase("all", image_views=("strong",), text_views=("eda",)), Phase("few", np.array([3, 5]))]

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return super().loss(batch, encoder, phase) + self._head(encoder.encode_image(batch.images[0])).square().mean()


@register_defense("mortal")
class Mortal(CLIP):
    """CLIP that stops being at a step that the environment tells."""

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        _note("steps", phase.name)
        time.sleep(float(os.environ.get("WAIT", "0")))
        if os.environ.get("DIES") == str(RANK) and len((FOLDER / f"steps.{RANK}").read_text().splitlines()) >= 3:
            os._exit(9)
        return super().loss(batch, encoder, phase)


@register_defense("doomed")
class Doomed(CLIP):
    """CLIP without a finite loss."""

    def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
        return super().loss(batch, encoder, phase) * math.nan
