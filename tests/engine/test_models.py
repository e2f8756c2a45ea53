import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from bench.api import Vocabulary
from bench.config import TrainSpec
from bench.errors import UserError
from bench.models import factory, trunk
from bench.models.encoder import ClipEncoder
from bench.models.frozen import FrozenClip
from bench.models.vocabulary import CompactVocabulary
from bench.training.optimizer import adamw

CPU = torch.device("cpu")
NAME = "scenes-small"
CAPTIONS = ["a red ring", "two blue stars on a table", "", "nothing to see here, a very long caption " * 9]
RECIPE = TrainSpec(epochs=1, batch_size=4, lr=1e-3)


def _create(name: str, seed: int) -> Any:
    return factory.create(name, seed)


def _images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def _encoder(precision: str = "fp32", seed: int = 0) -> ClipEncoder:
    return ClipEncoder(_create(NAME, seed), precision, CPU)


def test_weights_depend_on_name_and_seed_only() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = _create(NAME, 1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    again, other = _create(NAME, 1).state_dict(), _create(NAME, 2).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["token_embedding.weight"], other["token_embedding.weight"])


def test_names() -> None:
    assert {"scenes-small", "small-64"} <= set(factory.own_models()) <= set(factory.model_names())
    assert [factory.image_size(name) for name in ("scenes-small", "small-64", "RN50")] == [32, 64, 224]
    with pytest.raises(UserError, match="unknown model; did you mean 'RN50'"):
        factory.config("RN55")


ARCHITECTURES = {
    "scenes-small": "8bc441502d767b6e75585a97d238f2a46144806f1d07488921528c267318f146",
    "scenes-vit-8": "4345f98d02e0e7bcc99c056119474e0c45de6018d63cda577288e4b1ae32a319",
    "small-64": "ce7c02083325b99f6649f8ae1298200810bf0eaaecbdd870365e80e15d128c0c",
}
NEW_NAME = "runs are identified by the model's name alone: a changed architecture needs a new name, and a new name a line here"


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES, *factory.own_models()}))
def test_a_name_means_one_architecture(name: str) -> None:
    canonical = json.dumps(factory.config(name), sort_keys=True, separators=(",", ":"))
    assert ARCHITECTURES.get(name) == hashlib.sha256(canonical.encode()).hexdigest(), NEW_NAME


def test_the_small_network_means_one_architecture() -> None:
    network = timm.create_model("bench_resnet10").eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 653_352, NEW_NAME
    assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 144, 2, 2), NEW_NAME


def _train(compact: bool) -> tuple[list[float], Any]:
    model = _create(NAME, 0)
    tokens = factory.tokenizer(NAME)(CAPTIONS)
    vocabulary = CompactVocabulary(model, tokens) if compact else None
    encoder = ClipEncoder(model, "fp32", CPU)
    optimizer = adamw([encoder], RECIPE)
    rows = vocabulary.compact(tokens) if vocabulary else tokens
    losses = []
    for _ in range(6):
        logits = encoder.logit_scale * encoder.encode_image(_images()) @ encoder.encode_text(rows).T
        loss = F.cross_entropy(logits, torch.arange(4))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    if vocabulary:
        assert model.token_embedding.num_embeddings < 60
        vocabulary.restore()
    return losses, model


def test_a_compact_vocabulary_trains_the_same() -> None:
    (losses, model), (whole_losses, whole) = _train(True), _train(False)
    assert losses[-1] < losses[0] - 0.05
    assert losses == pytest.approx(whole_losses, rel=1e-6)
    tokens = factory.tokenizer(NAME)(CAPTIONS)
    used = torch.unique(tokens)
    initial = _create(NAME, 0).state_dict()["token_embedding.weight"]
    table, expected = model.token_embedding.weight, whole.token_embedding.weight
    assert isinstance(table, torch.nn.Parameter)
    assert table.shape == expected.shape == initial.shape
    assert torch.allclose(table[used], expected[used], atol=1e-6)
    assert not torch.equal(table[used], initial[used])
    unused = torch.ones(len(initial), dtype=torch.bool)
    unused[used] = unused[0] = False
    assert torch.equal(table[unused], initial[unused])
    with torch.no_grad():
        assert torch.allclose(model.eval().encode_text(tokens), whole.eval().encode_text(tokens), atol=1e-5)


def test_a_compact_vocabulary_keeps_a_small_model_exact() -> None:
    model, tokens = _create(NAME, 0), factory.tokenizer(NAME)(CAPTIONS)
    with torch.no_grad():
        before = model.eval().encode_text(tokens)
        vocabulary = CompactVocabulary(model, tokens)
        assert torch.equal(model.encode_text(vocabulary.compact(tokens)), before)
        vocabulary.restore()
        assert torch.equal(model.encode_text(tokens), before)


@pytest.mark.parametrize("name", ["scenes-small", "small-64"])
def test_open_clip_reads_the_weights(name: str, tmp_path: Path) -> None:
    model = _create(name, 7).eval()
    with torch.no_grad():
        model.logit_scale.fill_(1.25)
    path = tmp_path / "model.safetensors"
    path.write_bytes(factory.weights_bytes(model))
    read = open_clip.create_model(name, pretrained=str(path)).eval()
    side = factory.image_size(name)
    images = torch.rand(3, 3, side, side)
    tokens = open_clip.get_tokenizer(name)(CAPTIONS)
    with torch.no_grad():
        assert torch.equal(read.encode_image(images), model.encode_image(images))
        assert torch.equal(read.encode_text(tokens), model.encode_text(tokens))
    assert float(read.logit_scale) == 1.25
    fresh = _create(name, 8)
    factory.load_weights(fresh, path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in fresh.state_dict().items())


def test_embeddings_are_of_unit_length_and_normalised_as_open_clip_does() -> None:
    encoder = _encoder().eval()
    tokens = factory.tokenizer(NAME)(CAPTIONS)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        images, texts = encoder.encode_image(_images()), encoder.encode_text(tokens)
        expected = F.normalize(encoder.model.encode_image((_images() - mean) / std), dim=-1)
        assert torch.allclose(encoder.encode_text(tokens), F.normalize(encoder.model.encode_text(tokens), dim=-1))
    for made in (images, texts):
        assert made.dtype == torch.float32
        assert made.shape == (4, json.loads(json.dumps(factory.config(NAME)))["embed_dim"])
        assert torch.allclose(made.norm(dim=1), torch.ones(4), atol=1e-6)
    assert torch.allclose(images, expected, atol=1e-5)


def test_logit_scale_is_at_most_a_hundred() -> None:
    encoder = _encoder()
    assert float(encoder.logit_scale) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        encoder.model.logit_scale.fill_(10.0)
    assert float(encoder.logit_scale) == pytest.approx(100, rel=1e-6)
    encoder.clamp_logit_scale()
    assert float(encoder.model.logit_scale) == pytest.approx(math.log(100))
    with torch.no_grad():
        encoder.model.logit_scale.fill_(1.0)
    encoder.clamp_logit_scale()
    assert float(encoder.logit_scale) == pytest.approx(math.e)
    encoder.logit_scale.backward()
    assert float(encoder.model.logit_scale.grad) == pytest.approx(math.e)


def test_bf16_is_close_to_fp32() -> None:
    exact, rough = _encoder(), _encoder("bf16")
    with torch.no_grad():
        one, other = (each.eval().encode_image(_images(16)) for each in (exact, rough))
        texts = [each.encode_text(factory.tokenizer(NAME)(CAPTIONS)) for each in (exact, rough)]
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    assert (one * other).sum(dim=1).min() > 0.999
    assert torch.equal(*texts)


class _Rows:
    def __init__(self, count: int) -> None:
        self.pixels = (_images(count) * 255).to(torch.uint8)
        self.loads = 0

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, indices: np.ndarray) -> torch.Tensor:
        self.loads += 1
        return self.pixels[torch.from_numpy(indices)]


def test_frozen_model_against_plain_loops() -> None:
    encoder = _encoder()
    tokenizer = factory.tokenizer(NAME)
    frozen = FrozenClip(encoder, tokenizer)
    vocabulary = Vocabulary(tuple(f"thing {number}" for number in range(300)), ("a {}.", "one red {} here", "{}"))
    images = _Rows(700)
    classes, features = frozen.classifier(vocabulary), frozen.image_features(images)
    assert frozen.classifier(vocabulary) is classes
    loads = images.loads
    assert frozen.image_features(images) is features
    assert images.loads == loads
    assert not encoder.training
    assert not features.requires_grad
    with torch.no_grad():
        for number in (0, 1, 170, 171, 299):
            prompts = [template.replace("{}", f"thing {number}") for template in vocabulary.templates]
            rows = [F.normalize(encoder.model.encode_text(tokenizer([prompt]))[0], dim=0) for prompt in prompts]
            mean = sum(rows, torch.zeros(128)) / 3
            assert torch.allclose(classes[number], mean / mean.norm(), atol=1e-5)
        for row in (0, 511, 512, 699):
            alone = encoder.encode_image(images.pixels[row : row + 1].float() / 255)[0]
            assert torch.allclose(features[row], alone, atol=1e-5)
    assert classes.shape == (300, 128)
    assert features.shape == (700, 128)
    assert len(frozen.image_features(_Rows(0))) == 0


@pytest.mark.parametrize("name", ["scenes-small", "scenes-vit-8"])
def test_the_trunk_is_what_the_projection_is_made_of(name: str) -> None:
    encoder = ClipEncoder(_create(name, 0), "fp32", CPU)
    visual, names = encoder.model.visual, list(encoder.state_dict())
    features = encoder.eval().trunk(_images())
    projected = features @ visual.proj if name == "scenes-vit-8" else visual.head(features)
    assert torch.allclose(F.normalize(projected, dim=-1), encoder.encode_image(_images()), atol=1e-6)
    assert features.shape == (4, encoder.trunk_dim(32))
    assert list(encoder.state_dict()) == names
    features.sum().backward()
    reached = {key for key, parameter in visual.named_parameters() if parameter.grad is not None}
    assert {key for key in dict(visual.named_parameters()) if key not in reached} == {
        key for key in dict(visual.named_parameters()) if key.startswith(("proj", "head"))
    }


def test_the_trunk_of_a_residual_network_of_open_clip() -> None:
    visual = open_clip.modified_resnet.ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=4, image_size=32, width=8).eval()
    whole = visual.attnpool
    found = trunk.features(visual, _images())
    assert visual.attnpool is whole
    maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(_images())))))
    assert torch.equal(found, maps.mean(dim=(2, 3)))
    assert found.shape == (4, 8 * 32)


def test_the_width_of_the_trunk_changes_no_statistics() -> None:
    encoder = _encoder().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert encoder.trunk_dim(32) == 144
    assert encoder.training
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_text_features_are_those_of_the_text_tower() -> None:
    encoder = _encoder()
    tokenizer = factory.tokenizer(NAME)
    model = FrozenClip(encoder, tokenizer)
    many = CAPTIONS * 150
    expected = encoder.encode_text(tokenizer(CAPTIONS)).detach()
    assert torch.allclose(model.text_features(many), expected.repeat(150, 1), atol=1e-5)
    assert torch.allclose(model.text_features(many).norm(dim=1), torch.ones(600), atol=1e-5)
