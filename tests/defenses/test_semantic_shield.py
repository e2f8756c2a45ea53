"""Semantic Shield's losses against sums over single pairs, patches and elements, and which elements captions mention."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defense_fakes import DIM, FakeEncoder, FakeScorer, batch, train_setup
from loss_formulas import Rows, dot

from bench.api import Elements, Vocabulary
from bench.data.elements import elements
from bench.defenses.semantic_shield import SemanticShield, SemanticShieldParams
from bench.errors import UserError
from bench.testing import small

SCALE = 10.0
MENTIONED = [[4, -1, -1], [0, 2, -1], [-1, -1, -1], [1, 2, 4], [2, -1, -1], [3, -1, -1]]
SHIELDED = Elements(torch.tensor([[1, 5, 0], [1, 9, 3], [7, 2, 8], [2, 2, 2], [6, 1, 1]]), torch.tensor(MENTIONED))


class _WithPlaces(FakeEncoder):
    """The places of an image are its rows of pixels; prompts have a tower of their own, so that none is taken for a caption."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.place = torch.nn.Parameter(torch.randn(6, DIM, generator=generator))
        self.prompt = torch.nn.Parameter(torch.randn(3, DIM, generator=generator))

    def image_parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encode_image(images), F.normalize(images.transpose(1, 2).flatten(2) @ self.place, dim=-1)

    def encode_prompts(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.normalize(tokens.float() @ self.prompt, dim=-1)


def _defense(**params: float) -> SemanticShield:
    return SemanticShield(SemanticShieldParams.model_validate(params), train_setup(6, elements=SHIELDED))


def _pair_loss(images: Rows, texts: Rows, i: int) -> float:
    own = SCALE * dot(images[i], texts[i])
    by_image = math.log(math.fsum(math.exp(SCALE * dot(images[i], text)) for text in texts))
    by_text = math.log(math.fsum(math.exp(SCALE * dot(image, texts[i])) for image in images))
    return (by_image + by_text) / 2 - own


def _cross_entropy(logit: float, target: float) -> float:
    return -target * math.log(1 / (1 + math.exp(-logit))) - (1 - target) * math.log(1 / (1 + math.exp(logit)))


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
def test_loss_against_the_formula(weights: tuple[float, float], as_released: bool) -> None:
    defense = _defense(alignment=weights[0], attention=weights[1], as_released=as_released)
    pairs = np.array([3, 1, 2, 4])
    encoder, views = _WithPlaces(), batch(4, 1, 1, pairs=pairs)
    with torch.no_grad():
        images, places = (each.tolist() for each in encoder.image_parts(views.images[0]))
        texts = encoder.encode_text(views.texts[0]).tolist()
        words = encoder.encode_prompts(SHIELDED.tokens).tolist()
    clip = aligned = attended = 0.0
    seen = [0, 1, 2, 4]
    for i, pair in enumerate(pairs):
        says = {element for element in MENTIONED[pair] if element >= 0}
        best = {c: max(dot(place, words[c]) for place in places[i]) for c in seen}
        shares = [math.exp(SCALE * dot(place, images[i])) for place in places[i]]
        mean = {c: sum(s * dot(p, words[c]) for s, p in zip(shares, places[i], strict=True)) / sum(shares) for c in seen}
        clip += _pair_loss(images, texts, i) * (len(says) / sum((1 + best[c]) / 2 for c in says) if says else 1) / 4
        target = {c: float(c in says) for c in seen}
        if as_released:
            target = {c: math.exp(target[c]) / sum(map(math.exp, target.values())) for c in seen}
        aligned += sum(_cross_entropy(SCALE * best[c], target[c]) for c in seen) / 16
        attended += sum(_cross_entropy(SCALE * mean[c], target[c]) for c in seen) / 16
    found = defense.loss(views, encoder, defense.phases(0)[0])  # type: ignore[arg-type]
    assert found.item() == pytest.approx(clip + weights[0] * aligned + weights[1] * attended, rel=1e-4)
    found.backward()
    assert encoder.place.grad is not None
    assert encoder.prompt.grad is not None


def test_cross_entropies_leave_the_temperature() -> None:
    """Its gradient is that of the weighted CLIP loss, whatever their weights."""
    gradients = []
    for weight in (0.0, 5.0):
        encoder = _WithPlaces()
        _defense(alignment=weight, attention=weight).loss(batch(6, 1, 1), encoder, None).backward()  # type: ignore[arg-type]
        gradients.append(encoder.scale.grad)
    assert torch.allclose(gradients[0], gradients[1])  # type: ignore[arg-type]


def test_what_it_tells_of_an_epoch() -> None:
    defense, encoder, scorer = _defense(), _WithPlaces(), FakeScorer(np.zeros(6, dtype=np.float32))
    defense.loss(batch(6, 1, 1, seed=7), encoder, defense.phases(0)[0])  # type: ignore[arg-type]
    defense.before_epoch(1, scorer)
    said, others, with_elements = [], [], []
    for step, pairs in enumerate(([0, 1, 2], [3, 4, 5])):
        views = batch(3, 1, 1, seed=step, pairs=np.array(pairs))
        defense.loss(views, encoder, defense.phases(1)[0])  # type: ignore[arg-type]
        if step == 0:
            state, defense = defense.state_dict(), _defense()
            defense.load_state_dict(state)
        with torch.no_grad():
            best = (encoder.image_parts(views.images[0])[1] @ encoder.encode_prompts(SHIELDED.tokens).T).amax(dim=1)
        seen = {c for pair in pairs for c in MENTIONED[pair] if c >= 0}
        for row, pair in enumerate(pairs):
            said += [float(best[row, c]) for c in seen if c in MENTIONED[pair]]
            others += [float(best[row, c]) for c in seen if c not in MENTIONED[pair]]
            with_elements.append(MENTIONED[pair][0] >= 0)
    expected = {
        "element_similarity": np.mean(said),
        "element_gap": np.mean(said) - np.mean(others),
        "with_elements": np.mean(with_elements),
    }
    assert defense.telemetry() == pytest.approx(expected, abs=1e-6)
    assert defense.telemetry()["with_elements"] == pytest.approx(5 / 6)


def test_without_elements_it_says_so() -> None:
    with pytest.raises(UserError, match=r"^semantic_shield: no caption mentions"):
        SemanticShield(SemanticShieldParams(), train_setup())


def test_elements_of_scenes_are_words_of_its_grammar() -> None:
    captions = ["a scarlet striped ring on the sand", "look at this thing", "my blue cottage in the sea for sale hd"]
    found = elements(captions, small.bundle(), small.tokenize)
    texts = ["ring", "house", "red", "blue", "striped", "sand", "water"]
    assert torch.equal(found.tokens, small.tokenize(texts))
    named = [{texts[element] for element in row if element >= 0} for row in found.mentioned.tolist()]
    assert named == [{"red", "striped", "ring", "sand"}, set(), {"blue", "house", "water"}]


def test_elements_elsewhere_are_names_of_classes_that_training_can_read() -> None:
    vocabulary = Vocabulary(("red fox", "lynx", "owl", "hare"), ("a {}",), (("vixen",), (), (), ()))
    bundle = dataclasses.replace(small.bundle(), elements=(), synonyms={}, vocabulary=vocabulary)
    tokens = small.tokenize(vocabulary.names)
    tokens[1, 0] = -1
    found = elements(["A Vixen!", "an owl, a lynx", "foxes"], bundle, lambda names: tokens)
    assert torch.equal(found.tokens, tokens[[0, 2]])
    assert found.mentioned.tolist() == [[0], [1], [-1]]
    none = elements(["x"], bundle, lambda names: tokens)
    assert (none.tokens.shape, none.mentioned.shape) == ((0, tokens.shape[1]), (1, 0))
