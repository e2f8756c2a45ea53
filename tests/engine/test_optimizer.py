import numpy as np
import pytest
import torch

from bench.config import TrainSpec
from bench.models import factory
from bench.models.encoder import ClipEncoder
from bench.training.optimizer import adamw, clip_defaults


@pytest.mark.parametrize(
    ("model", "beta2", "eps"),
    [
        ("RN50", 0.999, 1e-8),
        ("RN101-quickgelu", 0.999, 1e-8),
        ("RN50x4", 0.999, 1e-8),
        ("scenes-small", 0.999, 1e-8),
        ("small-64", 0.999, 1e-8),
        ("ViT-B-32", 0.98, 1e-6),
        ("ViT-B-16-SigLIP", 0.98, 1e-6),
        ("scenes-vit-8", 0.98, 1e-6),
    ],
)
def test_the_optimiser_follows_the_architecture(model: str, beta2: float, eps: float) -> None:
    assert clip_defaults(model) == {"beta2": beta2, "eps": eps}


@pytest.mark.parametrize("model", ["RN50", "ViT-B-32"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 7), (6,)])
def test_adamw_steps_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, model: str) -> None:
    """Loshchilov & Hutter 2019, in float64; gradients of many sizes, so that epsilon and both moments count."""
    beta2, eps = {"RN50": (0.999, 1e-8), "ViT-B-32": (0.98, 1e-6)}[model]
    layer, rng, lr = torch.nn.Module(), np.random.default_rng(0), 1e-2
    weight = rng.normal(size=shape)
    layer.weight = torch.nn.Parameter(torch.tensor(weight, dtype=dtype))
    decay = 0.1 if len(shape) > 1 else 0.0
    optimizer = adamw([layer], TrainSpec(epochs=1, batch_size=4, lr=lr, weight_decay=0.1, **clip_defaults(model)))  # type: ignore[arg-type]
    first, second = np.zeros(shape), np.zeros(shape)
    for step in range(1, 8):
        gradient = rng.normal(size=shape) * 10.0 ** rng.integers(-8, 1, size=shape)
        layer.weight.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
        first, second = 0.9 * first + 0.1 * gradient, beta2 * second + (1 - beta2) * gradient**2
        moved = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - beta2**step)) + eps)
        weight = weight - lr * decay * weight - lr * moved
        assert np.allclose(layer.weight.detach().double().numpy(), weight, rtol=1e-5, atol=1e-5)


def test_adamw_decays_matrices_only() -> None:
    encoder = ClipEncoder(factory.create("scenes-small", 0), "fp32", torch.device("cpu"))
    encoder.model.visual.requires_grad_(False)
    optimizer = adamw([encoder], TrainSpec(epochs=1, batch_size=4, lr=0.5, weight_decay=0.2, beta1=0.8, beta2=0.7, eps=1e-3))
    assert {(group["betas"], group["eps"], group["lr"]) for group in optimizer.param_groups} == {((0.8, 0.7), 1e-3, 0.5)}
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = set()
    for name, parameter in encoder.named_parameters():
        if torch.allclose(parameter, before[name] * 0.9) and before[name].any():
            decayed.add(name)
        else:
            assert torch.equal(parameter, before[name]), name
    expected = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad and parameter.ndim > 1}
    assert decayed == expected
    assert not [name for name in decayed if "bias" in name or "ln_" in name or "logit_scale" in name]
    assert "model.token_embedding.weight" in decayed
