import torch

from bench.training.async_loss import AsyncLosses


def test_losses_are_read_one_step_late_and_in_order() -> None:
    losses = AsyncLosses()
    for step, value in enumerate((3.0, 1.0, 2.0)):
        losses.put("train", 7, step, torch.tensor(value))
        assert [loss.step for loss in losses.ready()] == ([step - 1] if step else [])
    (last,) = losses.ready(keep=0)
    assert last == ("train", 7, 2, 2.0)
    assert losses.ready(keep=0) == []
