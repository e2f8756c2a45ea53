import numpy as np
import pytest
import torch

from bench.api import Batch, Phase
from bench.data.augment import random_crop, simclr
from bench.defenses.clip import CLIP
from bench.errors import UserError
from bench.models import factory
from bench.testing import small
from bench.training.joint_loss import _JointLoss, synchronised
from bench.training.ranks import Ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("total", [8, 9, 64, 515])
def test_every_row_is_one_processs(count: int, total: int) -> None:
    parts = [np.arange(total)[Ranks(rank, count).rows(total)] for rank in range(count)]
    assert np.concatenate(parts).tolist() == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fewer_rows_than_processes_are_done_whole() -> None:
    assert [Ranks(rank, 3).rows(2) for rank in range(3)] == [slice(0, 2)] * 3


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 7)])
def test_an_image_is_augmented_as_within_the_whole_batch(rows: slice) -> None:
    images = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    whole, part = random_crop(images, 0.3, seeded()), random_crop(images[rows], 0.3, seeded(), part=(7, rows))
    assert torch.allclose(part, whole[rows], atol=1e-6)
    whole, part = simclr(images, 0.3, 1.0, seeded()), simclr(images[rows], 0.3, 1.0, seeded(), (7, rows))
    assert torch.allclose(part, whole[rows], atol=1e-5)


def test_batch_normalisation_needs_gpus() -> None:
    model = factory.create("scenes-small", 0)
    assert synchronised(model, CPU, Ranks()) is model
    with pytest.raises(UserError, match=r"batch normalisation.*scenes-vit-8"):
        synchronised(model, CPU, Ranks(0, 2))
    transformer = factory.create("scenes-vit-8", 0)
    assert synchronised(transformer, CPU, Ranks(0, 2)) is transformer
    converted = synchronised(model, torch.device("cuda"), Ranks(0, 2))
    kinds = {type(module).__name__ for module in converted.modules()}
    assert "SyncBatchNorm" in kinds
    assert "BatchNorm2d" not in kinds
    assert converted.state_dict().keys() == factory.create("scenes-small", 0).state_dict().keys()


def test_a_defense_that_encodes_part_of_a_view_is_told() -> None:
    class Half(CLIP):
        def __init__(self) -> None:
            pass

        def loss(self, batch: Batch, encoder: object, phase: Phase) -> torch.Tensor:
            return encoder.encode_image(batch.images[0][::2]).sum()  # type: ignore[attr-defined]

    batch = Batch(torch.arange(8), (torch.rand(4, 3, 32, 32),), ())
    with pytest.raises(ValueError, match="encodes 2 rows, but this rank has 4"):
        _JointLoss(Half(), small.encoder(), torch.nn.Module(), Ranks(0, 2))(batch, Phase())
