"""Places of images and tokens of captions in the joint space, of the towers that the suite trains."""

from __future__ import annotations

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from bench.models import factory, stages, tokens
from bench.models.encoder import ClipEncoder
from bench.testing import small

CPU = torch.device("cpu")
CAPTIONS = ["a red ring", "the small striped house on the sand"]


def _encoder(name: str) -> ClipEncoder:
    return ClipEncoder(factory.create(name, 0), "fp32", CPU).eval()


def _images(n: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "places"), [("scenes-small", 4), ("scenes-vit-8", 16)])
def test_the_whole_is_the_embedding_and_places_are_of_unit_length(name: str, places: int) -> None:
    encoder = _encoder(name)
    whole, parts = encoder.image_parts(_images())
    assert torch.allclose(whole, encoder.encode_image(_images()), atol=1e-6)
    assert parts.shape == (3, places, 128)
    assert torch.allclose(parts.norm(dim=2), torch.ones(3, places))


def test_an_average_of_places_is_the_embedding() -> None:
    encoder = _encoder("scenes-small")
    pixels = encoder._pixels(_images())
    whole, parts = tokens.of_images(encoder.model.visual, pixels)
    assert torch.allclose(parts.mean(dim=1), whole, atol=1e-5)


def test_the_token_at_the_end_is_the_caption() -> None:
    encoder = _encoder("scenes-small")
    rows = factory.tokenizer("scenes-small")(CAPTIONS)
    whole, words = encoder.text_parts(rows)
    assert torch.allclose(whole, encoder.encode_text(rows), atol=1e-6)
    for row in range(2):
        end = int(rows[row].argmax())
        assert torch.allclose(words[row, end], whole[row], atol=1e-6)
        assert torch.equal(words[row].any(dim=1), rows[row] != 0)
        assert not words[row, end + 1 :].any()


def test_of_a_residual_network_of_open_clip_values_are_projected() -> None:
    visual = open_clip.modified_resnet.ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=4, image_size=64, width=8).eval()
    whole, parts = tokens.of_images(visual, _images(side=64))
    assert torch.allclose(whole, visual(_images(side=64)), atol=1e-6)
    maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(_images(side=64))))))
    pool = visual.attnpool
    corner = pool.c_proj(pool.v_proj(maps[:, :, 1, 0]))
    assert parts.shape == (3, 4, 8)
    assert torch.allclose(parts[:, 2], corner, atol=1e-6)


def test_a_tower_without_parts_gives_the_whole() -> None:
    encoder = small.encoder()
    rows = small.tokenize(CAPTIONS)
    for whole, parts in (encoder.image_parts(_images()), encoder.text_parts(rows)):
        assert torch.equal(whole[:, None], parts)
    assert torch.allclose(encoder.text_parts(rows)[0], F.normalize(encoder.encode_text(rows), dim=-1))


def test_stages_of_residual_networks_and_blocks_of_transformers() -> None:
    encoder = _encoder("scenes-small")
    embeddings, states = encoder.stages(_images())
    assert torch.allclose(embeddings, encoder.encode_image(_images()), atol=1e-6)
    assert [tuple(state.shape) for state in states] == [(3, 24, 16, 16), (3, 48, 8, 8), (3, 96, 4, 4), (3, 144, 2, 2)]
    trunk = encoder.model.visual.trunk
    assert torch.allclose(trunk.layer3(states[1]), states[2], atol=1e-6)
    assert torch.allclose(states[3].mean(dim=(2, 3)), encoder.trunk(_images()), atol=1e-6)
    assert not trunk.layer1._forward_hooks

    encoder = _encoder("scenes-vit-8")
    embeddings, states = encoder.stages(_images())
    assert torch.allclose(embeddings, encoder.encode_image(_images()), atol=1e-6)
    blocks = encoder.model.visual.transformer.resblocks
    assert len(states) == len(blocks)
    assert torch.allclose(blocks[1](states[0]), states[1], atol=1e-6)


def test_stages_elsewhere() -> None:
    visual = open_clip.modified_resnet.ModifiedResNet((1, 1, 1, 1), output_dim=8, heads=4, image_size=64, width=8).eval()
    whole, states = stages.outputs(visual, _images(side=64))
    assert torch.equal(whole, visual(_images(side=64)))
    assert torch.equal(visual.layer4(states[2]), states[3])
    convnext = timm.create_model("convnext_atto", num_classes=0).eval()
    _, states = stages.outputs(convnext, _images(side=64))
    assert torch.allclose(convnext.stages[1](states[0]), states[1], atol=1e-5)
    bare = small.encoder()
    embeddings, (features,) = bare.stages(_images())
    assert torch.equal(features, bare.trunk(_images()))
    assert torch.allclose(embeddings, bare.encode_image(_images()))
