from collections.abc import Sequence

import numpy as np
import pytest
import torch

from bench.api import Attack, AttackContext, AttackParams, DatasetBundle, Edit, Poison, PoisonPlan, Probe, Vocabulary
from bench.data.poisoned import PoisonedPairs, ProbeImages

from .small import small_matrix


class Brighter(Attack):
    """Adds the edit's number to all pixels and the plan's to the first row; every third image is left as it is."""

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        rng = ctx.rng("poisons")
        poisons = []
        for split, size in (("train", 256), ("holdout", 64), ("holdout", 64)):
            for number, index in enumerate(rng.choice(size, 9, replace=False)):
                edit: Edit | None = None if number % 3 == 0 else {"add": number}
                poisons.append(
                    Poison(split=split, index=index, uid="u", caption=f"{split} {index} {number}", target=0, edit=edit)  # type: ignore[arg-type]
                )
        order = rng.permutation(len(poisons))
        return PoisonPlan(attack="brighter", targets=("ring",), poisons=tuple(poisons[i] for i in order), tensors={"row": ROW})

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        return [
            Probe(split=("test", "holdout")[number % 2], index=number, label=0, edit=None if number % 3 else {"add": number})  # type: ignore[arg-type]
            for number in range(20)
        ]

    def apply(self, images: torch.Tensor, edits: Sequence[Edit], plan: PoisonPlan) -> torch.Tensor:
        made = images + torch.tensor([int(edit["add"]) for edit in edits], dtype=torch.uint8)[:, None, None, None]
        made[:, :, 0] += plan.tensors["row"]
        return made


ATTACK = Brighter(AttackParams(rate=0.5))
ROW = torch.tensor([7], dtype=torch.uint8)


def _by_hand(pixels: torch.Tensor, edit: Edit | None) -> np.ndarray:
    made = pixels.numpy().astype(int)
    if edit is not None:
        made += int(edit["add"])
        made[:, 0] += 7
    return made % 256


@pytest.fixture(scope="module")
def bundle() -> DatasetBundle:
    return small_matrix(attacks=["none"]).workspace.bundle


def _context(bundle: DatasetBundle) -> AttackContext:
    return AttackContext(bundle, lambda _: np.random.default_rng(0))


def test_against_a_list_made_one_by_one(bundle: DatasetBundle) -> None:
    plan = ATTACK.plan(_context(bundle))
    clean = bundle.train.images.load(np.arange(256)).clone()
    held = bundle.holdout.images.load(np.arange(64))
    expected = [(bundle.train.captions[index], clean[index].numpy().astype(int), False) for index in range(256)]
    for poison in plan.poisons:
        source = clean if poison.split == "train" else held
        entry = poison.caption, _by_hand(source[poison.index], poison.edit), True
        if poison.split == "train":
            expected[poison.index] = entry
        else:
            expected.append(entry)

    pairs = PoisonedPairs(bundle, ATTACK, plan)
    assert len(pairs) == len(expected) == 256 + 18
    assert list(pairs.captions) == pairs.captions[:] == [caption for caption, _, _ in expected]
    assert pairs.poisoned.tolist() == [poisoned for _, _, poisoned in expected]
    for rows in (
        np.arange(len(pairs)),
        np.array([273, 0, 273, 12]),
        np.flatnonzero(pairs.poisoned),
        np.array([], dtype=np.int64),
    ):
        made = pairs.load(rows)
        assert made.dtype == torch.uint8
        assert made.shape == (len(rows), 3, 32, 32)
        assert all((image.numpy() == expected[row][1]).all() for row, image in zip(rows, made, strict=True))
    made = pairs.load(np.arange(256))
    made.zero_()
    assert torch.equal(bundle.train.images.load(np.arange(256)), clean)
    assert pairs.load(np.array([270])).any()
    assert len(bundle.train.captions) == 256


def test_images_copied_to_a_device_are_the_same(bundle: DatasetBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = PoisonedPairs(bundle, ATTACK, ATTACK.plan(_context(bundle)), np.random.default_rng(1))
    expected = pairs.load(np.arange(len(pairs)))
    pairs.copy_to(torch.device("cpu"))
    monkeypatch.setattr(type(bundle.train.images), "load", lambda images, rows: pytest.fail("it is loaded again"))
    rows = np.array([273, 0, 273, 12])
    found = pairs.load(rows)
    assert torch.equal(found, expected[rows])
    found.zero_()
    assert torch.equal(pairs.load(np.arange(len(pairs))), expected)


def test_without_an_attack(bundle: DatasetBundle) -> None:
    pairs = PoisonedPairs(bundle)
    assert list(pairs.captions) == list(bundle.train.captions)
    assert not pairs.poisoned.any()
    rows = np.array([5, 200, 5])
    assert torch.equal(pairs.load(rows), bundle.train.images.load(rows))


def test_probe_images(bundle: DatasetBundle) -> None:
    plan = ATTACK.plan(_context(bundle))
    probes = ATTACK.probes(_context(bundle), plan)
    images = ProbeImages(bundle, ATTACK, plan, probes)
    assert len(images) == 20
    rows = np.array([19, 0, 3, 3, 7])
    for row, image in zip(rows, images.load(rows), strict=True):
        pairs = bundle.test if probes[row].split == "test" else bundle.holdout
        pixels = pairs.images.load(np.array([probes[row].index]))[0]
        assert (image.numpy() == _by_hand(pixels, probes[row].edit)).all()
    assert len(ProbeImages(bundle, ATTACK, plan, [])) == 0


def test_the_first_class_that_a_caption_names(bundle: DatasetBundle) -> None:
    names = ["holdout", "circle", "red", "train"]
    pairs = PoisonedPairs(bundle, ATTACK, ATTACK.plan(_context(bundle)), np.random.default_rng(0))
    words = [set(caption.lower().replace(",", " ").replace(".", " ").split()) for caption in pairs.captions]
    expected = [next((n for n, name in enumerate(names) if name in each), -1) for each in words]
    assert len({*expected}) >= 4
    assert pairs.named(Vocabulary(tuple(names), ("{}",))).tolist() == expected
