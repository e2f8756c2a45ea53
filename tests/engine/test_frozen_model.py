"""What a defense may do with its model between epochs, and batch normalisation as in evaluation within them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.api import Batch, Encoder, Phase
from bench.defenses.clip import CLIP
from bench.matrix import cell as cells
from bench.matrix.runtime import Runtime
from bench.matrix.store import Store
from bench.models.vocabulary import CompactVocabulary
from bench.registry import register_defense
from bench.testing import small
from bench.training.joint_loss import _WholeBatch
from bench.training.ranks import Ranks
from bench.training.scorer import PairScorer
from bench.training.trainer import Trainer

from .small import small_matrix
from .training import Recorder, execute


def _prepared(tmp_path: Path) -> tuple[Trainer, CompactVocabulary, PairScorer]:
    matrix = small_matrix("attack.rate=0.1", "train.precision=bf16")
    runtime = Runtime(torch.device("cpu"), Recorder(), lambda: False)
    trainer, vocabulary = cells.prepare(matrix.cells[-1], matrix.workspace, Store.create(tmp_path), runtime)
    scorer = PairScorer(trainer.encoder, trainer.pairs, trainer.captions, classes=trainer.classes)
    return trainer, vocabulary, scorer


def test_images_are_those_of_the_pairs(registries: None, tmp_path: Path) -> None:
    trainer, _, scorer = _prepared(tmp_path)
    rows = np.flatnonzero(trainer.pairs.poisoned)[:2]
    assert torch.equal(scorer.images(rows), trainer.pairs.load(rows).float() / 255)


def test_a_defense_that_looks_at_images_can_be_interrupted(registries: None, tmp_path: Path) -> None:
    trainer, _, _ = _prepared(tmp_path)
    scorer = PairScorer(trainer.encoder, trainer.pairs, trainer.captions, lambda: True)
    with pytest.raises(KeyboardInterrupt), scorer.frozen():
        scorer.images(np.arange(2))
    assert all(parameter.requires_grad for parameter in trainer.encoder.parameters())


def test_classes_may_have_prompts_of_words_that_no_caption_has(registries: None, tmp_path: Path) -> None:
    trainer, vocabulary, scorer = _prepared(tmp_path)
    encoder, known = trainer.encoder, small.bundle().vocabulary
    tokenizer = small_matrix().workspace.tokenizer
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert (vocabulary.compact(tokenizer(["a zeppelin"])) == -1).any()
    vocabulary._row[tokenizer(known.prompts()[0])[0, 2]] = -1  # as if no caption had it
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = scorer.classes()
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    vocabulary.restore()
    with torch.no_grad():
        for row, prompts in zip(found, known.prompts(), strict=True):
            mean = torch.stack([encoder.encode_text(tokenizer([prompt]))[0] for prompt in prompts]).mean(dim=0)
            assert torch.allclose(row, F.normalize(mean, dim=0), atol=1e-5)


def test_without_prompts_there_are_no_classes() -> None:
    with pytest.raises(RuntimeError, match="no prompts"):
        PairScorer(small.encoder(), None, None).classes()  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [False, True])
def test_a_frozen_model_gives_gradient_to_pixels_alone_and_is_as_before(
    training: bool, registries: None, tmp_path: Path
) -> None:
    trainer, _, scorer = _prepared(tmp_path)
    encoder = trainer.encoder.train(training)
    encoder.model.logit_scale.requires_grad_(False)
    images = scorer.images(np.arange(4)).requires_grad_()

    def look() -> None:
        with scorer.frozen() as model:
            embeddings = model.encode_image(images)
            (gradient,) = torch.autograd.grad(embeddings[:, 0].sum(), images)
            assert gradient.abs().sum() > 0
            assert not any(parameter.requires_grad for parameter in encoder.parameters())
            alone = model.encode_image(images[:1])
            assert torch.allclose(embeddings[:1], alone, atol=1e-6), "statistics of the batch were used"
            assert (embeddings - encoder.encode_image(images)).abs().max() > 1e-4, (
                "it was not in float32, as the encoder is not"
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert encoder.training is encoder.model.visual.training is training
    held = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    assert held == {"model.logit_scale"}


def test_batch_normalisation_as_in_evaluation(registries: None, tmp_path: Path) -> None:
    """Its statistics are used and left; dropout and the like are on; the next phase has batch statistics again."""
    seen: dict[str, list[bool]] = {}

    @register_defense("evaluating")
    class Evaluating(CLIP):
        def phases(self, epoch: int) -> tuple[Phase, ...]:
            return Phase("tune", eval_norm=True), Phase("train")

        def loss(self, batch: Batch, encoder: Encoder, phase: Phase) -> torch.Tensor:
            norms = {module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)}  # type: ignore[attr-defined]
            before = [norm.running_mean.clone() for norm in norms]
            with torch.no_grad():
                images = batch.images[0]
                together, alone = encoder.encode_image(images)[:1], encoder.encode_image(images[:1])
            kept = all(torch.equal(norm.running_mean, each) for norm, each in zip(norms, before, strict=True))
            others = {module.training for module in encoder.modules()} - {module.training for module in norms}  # type: ignore[attr-defined]
            same = bool(torch.allclose(together, alone, atol=1e-5))
            seen[phase.name] = [bool(norms), kept, same, others == {True}]
            return super().loss(batch, encoder, phase)

    matrix = small_matrix("train.precision=fp32", attacks=["none"], defenses=["evaluating"])
    execute(matrix, Store.create(tmp_path / "out"))
    assert seen == {"tune": [True, True, True, True], "train": [True, False, False, False]}


def test_stages_of_a_batch_on_two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ranks have the same rows."""
    monkeypatch.setattr(Ranks, "gather", lambda self, mine, total: torch.cat([mine, mine]))
    encoder, half = small.encoder(), torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = _WholeBatch(encoder, Ranks(0, 2), 6)
    embeddings, (features,) = whole.stages(half)
    expected, (wanted,) = encoder.stages(torch.cat([half, half]))
    assert torch.allclose(embeddings, expected, atol=1e-6)
    assert torch.allclose(features, wanted, atol=1e-6)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.model.visual.features.parameters())
