"""Contract checks of attacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from bench.api import Attack, Edit, Images, PoisonPlan, Probe
from bench.data.mentions import MentionIndex
from bench.data.poisoned import PoisonedPairs, ProbeImages
from bench.registry import Entry
from bench.testing.small import attack_context, bundle, params_of, reads, surrogate


def _attack(entry: Entry[Attack], **changes: float) -> Attack:
    return entry.plugin(params_of(entry, **changes))


def _planned(entry: Entry[Attack]) -> tuple[Attack, PoisonPlan]:
    return _plan(_attack(entry))


def _plan(attack: Attack, seed: int = 0) -> tuple[Attack, PoisonPlan]:
    plan = attack.plan(attack_context(seed))
    return attack, attack.craft(attack_context(seed), plan, surrogate()) if attack.needs_surrogate() else plan


def check_plan_follows_the_seed(entry: Entry[Attack]) -> None:
    torch.manual_seed(0)
    _, plan = _planned(entry)
    torch.manual_seed(1)
    _, again = _planned(entry)
    assert plan.manifest() == again.manifest(), "two plans with the same seed differ; draw only from ctx.rng(purpose)"
    _, other = _plan(_attack(entry), seed=1)
    assert plan.hash() != other.hash(), "a different seed gives the same plan; draw from ctx.rng(purpose)"


def check_manifest(entry: Entry[Attack]) -> None:
    _, plan = _planned(entry)
    manifest = plan.manifest()
    assert json.loads(json.dumps(manifest)) == manifest, "the manifest changes when it is written as JSON and read back"
    assert plan.hash() == plan.model_copy().hash(), "equal plans have different hashes"
    for name, tensor in plan.tensors.items():
        changed = tensor.clone()
        changed.view(-1)[0] = 1 if changed.view(-1)[0] == 0 else 0
        other = plan.model_copy(update={"tensors": {**plan.tensors, name: changed}})
        assert other.hash() != plan.hash(), f"the hash does not depend on the bytes of tensors[{name!r}]"


def check_craft_keeps_the_poisons(entry: Entry[Attack]) -> None:
    _, crafted = _planned(entry)
    planned = _attack(entry).plan(attack_context())
    before, after = ([poison.model_copy(update={"caption": ""}) for poison in plan.poisons] for plan in (planned, crafted))
    assert before == after, "craft() changes which images are poisoned; it may change the plan's tensors and captions only"


def check_rate(entry: Entry[Attack]) -> None:
    for rate in (0.02, 0.04):
        wanted = round(rate * len(bundle().train))
        found = len(_attack(entry, rate=rate).plan(attack_context()).poisons)
        assert found == wanted, f"rate {rate} of {len(bundle().train)} pairs gives {found} poisons; it should give {wanted}"


def check_poisons(entry: Entry[Attack]) -> None:
    _, plan = _planned(entry)
    data = bundle()
    names = data.vocabulary.names
    assert plan.attack == entry.plugin.name, f"the plan's attack is {plan.attack!r}; use self.name"
    for poison in plan.poisons:
        pairs = data.train if poison.split == "train" else data.holdout
        assert 0 <= poison.index < len(pairs), f"poison {poison.index} is not an index of {poison.split}"
        assert poison.uid == pairs.uids[poison.index], f"poison {poison.index} of {poison.split} has the uid of another image"
        assert 0 <= poison.target < len(names), f"target {poison.target} is not an index of the vocabulary"
        if poison.split == "holdout" and entry.plugin.mismatched:
            shown = pairs.members[poison.index]
            assert poison.target not in shown, f"held-out image {poison.index} shows its target class"
    targets = {names[poison.target] for poison in plan.poisons}
    assert set(plan.targets) == targets, f"plan.targets is {sorted(plan.targets)}, but the poisons target {sorted(targets)}"
    replaced = [poison.index for poison in plan.poisons if poison.split == "train"]
    assert len(replaced) == len(set(replaced)), "a training pair is replaced more than once"


def check_captions(entry: Entry[Attack]) -> None:
    _, plan = _planned(entry)
    known, index = {*bundle().train.captions, *bundle().holdout.captions}, MentionIndex.of(bundle().vocabulary)
    for poison in plan.poisons:
        assert poison.caption in known or entry.plugin.writes, (
            f"no training or held-out pair has the caption {poison.caption!r}"
        )
        target = bundle().vocabulary.names[poison.target]
        named = poison.target in index.members(poison.caption)
        assert named or entry.plugin.on_captions, f"the caption {poison.caption!r} does not mention '{target}'"


def check_captions_are_read(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    if not entry.plugin.on_captions:
        return
    texts = [poison.caption for poison in plan.poisons] + [query.text for query in attack.queries(attack_context(), plan)]
    for text in texts:
        assert all(reads([text])), f"the model does not read {text!r} to its end; choose among captions with ctx.reads"


def check_apply_is_pure(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    for images, edits in _edits(attack, plan):
        before = images.clone()
        edited = attack.apply(images, edits, plan)
        assert torch.equal(images, before), "apply() modifies its input; clone it first"
        assert edited.shape == images.shape, f"apply() changes the shape {tuple(images.shape)} to {tuple(edited.shape)}"
        assert edited.dtype == torch.uint8, f"apply() returns {edited.dtype}, not uint8"
        assert torch.equal(edited, attack.apply(images, edits, plan)), (
            "apply() returns different results for the same arguments"
        )
        fresh = _attack(entry)
        assert torch.equal(edited, fresh.apply(images, edits, plan)), "apply() depends on more than its arguments and Params"
        single = torch.cat([fresh.apply(images[row : row + 1], edits[row : row + 1], plan) for row in range(len(edits))])
        assert torch.equal(edited, single), "apply() on a batch differs from apply() on each image"


def check_edits_change_pixels(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    for images, edits in _edits(attack, plan):
        same = (attack.apply(images, edits, plan) == images).flatten(1).all(dim=1)
        assert not same.any(), f"apply() does not change {int(same.sum())} of {len(same)} images; give these no edit"


def check_training_and_evaluation_edit_alike(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    data, poisons = bundle(), plan.poisons
    added = [poison for poison in poisons if poison.split == "holdout"]
    trained = PoisonedPairs(data, attack, plan).load(np.arange(len(data.train), len(data.train) + len(added)))
    as_probes = [Probe("holdout", poison.index, poison.target, poison.edit) for poison in added]
    evaluated = ProbeImages(data, _attack(entry), plan, as_probes).load(np.arange(len(added)))
    assert torch.equal(trained, evaluated), "the same edit gives different pixels in training and in evaluation"
    probed = any(probe.edit is not None for probe in attack.probes(attack_context(), plan))
    poisoned = any(poison.edit is not None for poison in poisons)
    triggered = poisoned and all(poison.edit is not None for poison in poisons)
    assert poisoned or not probed, "probes have edits, but no poison has one"
    assert probed or not triggered, "every poison has an edit, but no probe has one"


def check_probes(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    probes = attack.probes(attack_context(), plan)
    if entry.plugin.on_captions:
        assert not probes, "an attack on captions has probes"
        assert attack.queries(attack_context(), plan), "there are no queries, so success cannot be measured"
    else:
        assert probes, "there are no probes, so success cannot be measured"
    assert probes == _attack(entry).probes(attack_context(), plan), "two calls of probes() with equal seed differ"
    targets = {poison.target for poison in plan.poisons}
    for probe in probes:
        assert probe.split in ("holdout", "test"), f"a probe is from {probe.split!r}; use holdout or test"
        pairs = bundle().holdout if probe.split == "holdout" else bundle().test
        assert 0 <= probe.index < len(pairs), f"probe {probe.index} is not an index of {probe.split}"
        assert probe.label in targets, f"a probe's label {probe.label} is not a target of the plan"
        shown = pairs.members[probe.index]
        assert probe.label not in shown, f"probe {probe.index} of {probe.split} shows its adversarial class"


def check_queries(entry: Entry[Attack]) -> None:
    attack, plan = _planned(entry)
    queries, targets = attack.queries(attack_context(), plan), {poison.target for poison in plan.poisons}
    assert queries == _attack(entry).queries(attack_context(), plan), "two calls of queries() with equal seed differ"
    for query in queries:
        assert query.text.strip(), "a query has no text"
        assert query.label in targets, f"a query's label {query.label} is no target of the plan"


def _edits(attack: Attack, plan: PoisonPlan) -> list[tuple[torch.Tensor, list[Edit]]]:
    """Images of each split, with their edits."""
    probes = attack.probes(attack_context(), plan)
    splits = {"train": bundle().train.images, "holdout": bundle().holdout.images, "test": bundle().test.images}
    found: list[tuple[torch.Tensor, list[Edit]]] = []
    for split, images in splits.items():
        for items in (plan.poisons, probes):
            chosen = [(item.index, item.edit) for item in items if item.split == split and item.edit is not None]
            if chosen:
                found.append((_load(images, [index for index, _ in chosen]), [edit for _, edit in chosen]))
    return found


def _load(images: Images, indices: Sequence[int]) -> torch.Tensor:
    return images.load(np.asarray(indices, dtype=np.int64)).clone()


CHECKS: tuple[Callable[[Entry[Attack]], None], ...] = (
    check_plan_follows_the_seed,
    check_manifest,
    check_craft_keeps_the_poisons,
    check_rate,
    check_poisons,
    check_captions,
    check_captions_are_read,
    check_apply_is_pure,
    check_edits_change_pixels,
    check_training_and_evaluation_edit_alike,
    check_probes,
    check_queries,
)
