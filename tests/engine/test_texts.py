"""Texts are cut to the longest of a batch where that changes no embedding, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from bench.matrix.store import Store
from bench.models import factory, texts
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip, FrozenSurrogate

from .small import small_matrix
from .training import execute

CPU = torch.device("cpu")
SHORT = ["a red ring", "the small striped house on the sand"]
LONG = [*SHORT, "one and two and three and four and five and six and seven and eight and nine and ten"]


def _model(context_length: int = 77, **text: Any) -> Any:
    torch.manual_seed(0)
    text = {"width": 32, "heads": 4, "layers": 3, "context_length": context_length, **text}
    return open_clip.CLIP(16, {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}, text).eval()


def _tokens(captions: list[str], context_length: int = 77) -> torch.Tensor:
    return open_clip.get_tokenizer("RN50")(captions, context_length=context_length)


@pytest.mark.parametrize(
    ("captions", "length"), [(SHORT, 16), (LONG, 32), (["word " * 100], 77), (["word " * 14], 16), (["word " * 15], 32)]
)
def test_what_is_left_holds_every_end_token(captions: list[str], length: int) -> None:
    tokens = _tokens(captions)
    kept = texts.cut(_model(), tokens)
    assert kept.shape[1] == length
    assert torch.equal(kept, tokens[:, :length])
    assert not tokens[:, length:].any()


def test_a_short_context_and_no_text_at_all_are_left_alone() -> None:
    for tokens in (_tokens(SHORT, 16), _tokens(SHORT)[:0]):
        assert texts.cut(_model(), tokens) is tokens


@pytest.mark.parametrize("captions", [SHORT, LONG])
def test_embeddings_are_those_of_the_whole_context(captions: list[str]) -> None:
    model, tokens = _model(), _tokens(captions)
    with torch.no_grad():
        assert torch.allclose(texts.encode(model, texts.cut(model, tokens)), model.encode_text(tokens), rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_whole_context() -> None:
    model, tokens = _model(), _tokens(LONG)
    found = []
    for encode in (model.encode_text, lambda tokens: texts.encode(model, texts.cut(model, tokens))):
        model.zero_grad()
        encode(tokens).square().sum().backward()
        found.append({name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys() > {"positional_embedding", "text_projection"}
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-5), name


def test_a_tower_that_reads_the_padding_gets_all_of_it() -> None:
    tokens = _tokens(SHORT)
    for model in (
        _model(no_causal_mask=True),
        _model(pool_type="last"),
        open_clip.CustomTextCLIP(
            16, {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}, {"width": 32, "heads": 4, "layers": 1}
        ),
    ):
        assert texts.cut(model, tokens) is tokens
        assert torch.equal(texts.encode(model, tokens), model.encode_text(tokens))


def test_a_linear_projection() -> None:
    model, tokens = _model(proj_bias=True), _tokens(SHORT)
    with torch.no_grad():
        assert torch.allclose(texts.encode(model, texts.cut(model, tokens)), model.encode_text(tokens), rtol=0, atol=1e-6)


def test_parts_of_a_text_fill_the_context() -> None:
    encoder, tokens = ClipEncoder(_model(), "fp32", CPU), _tokens(SHORT)
    with torch.no_grad():
        whole, cut = encoder.text_parts(tokens), encoder.text_parts(encoder.cut(tokens))
    assert cut[1].shape == (2, 77, 16)
    for one, other in zip(whole, cut, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_an_exclamation_mark_within_a_word_has_the_number_of_the_padding() -> None:
    encoder, tokens = ClipEncoder(_model(), "fp32", CPU), _tokens(["a ring !; it is red"])
    assert tokens[0, 3] == 0
    with torch.no_grad():
        _, (words,) = encoder.text_parts(tokens)
    assert words.any(dim=1).tolist() == [True] * 9 + [False] * 68


def test_evaluation_and_attacks_cut_their_texts() -> None:
    model, lengths = _model(), []
    model.transformer.register_forward_pre_hook(lambda module, given: lengths.append(given[0].shape[1]))
    encoder = ClipEncoder(model, "fp32", CPU)
    expected = F.normalize(model.encode_text(_tokens(SHORT)), dim=-1)
    for find in (FrozenClip(encoder, _tokens).text_features, FrozenSurrogate(encoder, _tokens).encode_captions):
        assert torch.allclose(find(SHORT), expected, rtol=0, atol=1e-6)
    assert lengths == [77, 16, 16]


def test_the_identity_of_a_model_tells_that_its_texts_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("scenes-small", "RN50")
    before = [factory.identity(name) for name in names]
    monkeypatch.setattr(texts, "STEP", 24)
    assert [factory.identity(name) == known for name, known in zip(names, before, strict=True)] == [True, False]
    assert np.unique(before).size == 2


def test_training_and_scoring_cut_their_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed: dict[tuple[bool, int], bool] = {}
    encode = texts.encode

    def recorded(model: Any, tokens: torch.Tensor) -> torch.Tensor:
        case = torch.is_grad_enabled(), len(tokens)
        needed[case] = needed.get(case, True) and bool(tokens[:, -1].any())
        return encode(model, tokens)

    monkeypatch.setattr(texts, "STEP", 1)
    monkeypatch.setattr(texts, "encode", recorded)
    matrix = small_matrix("data.train=70", "train.batch_size=10", attacks=["none"], defenses=["safeclip"])
    assert execute(matrix, Store.create(tmp_path))[0] == {"done": 1}
    assert needed[True, 10]
    assert needed[False, 70]
