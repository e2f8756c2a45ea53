import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.data import DataPlace, DatasetBundle
from bench.data.decoding import decode
from bench.data.visual_genome import VisualGenome, VisualGenomeParams
from bench.errors import UserError
from bench.registry import datasets

from .genome_maker import KINDS, make_genome
from .pixels import leaks


def opened(root: Path | None, cache: Path | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    return VisualGenome().open(VisualGenomeParams(**params), size, DataPlace(root, cache))


def edit(root: Path, change: Callable[[Any], object]) -> None:
    file = root / "region_descriptions.json"
    table = json.loads(file.read_text())
    changed = change(table)
    file.write_text(json.dumps(table if changed is None else changed))


def complaint(root: Path | None, *words: str, **params: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_genome(tmp_path / "vg")


def test_captions_images_and_members_correspond(root: Path) -> None:
    assert datasets["visual_genome"].plugin is VisualGenome
    bundle = opened(root, holdout_share=0.4)
    parts = (bundle.train, bundle.holdout, bundle.test)
    assert [len(part) for part in parts] == [12, 4, 4]
    uids = [uid for part in parts for uid in part.uids]
    assert sorted(uids) == sorted(f"VG_100K{'_2' if image % 2 else ''}/{image}.jpg" for image in range(1, 21))
    for part in parts:
        pixels = part.images.load(np.arange(len(part)))
        for row, uid in enumerate(part.uids):
            kind = KINDS[int(Path(uid).stem) % 3]
            assert [bundle.vocabulary.names[member] for member in part.members[row]] == [kind]
            phrases = part.captions[row].removesuffix(".").split(". ")
            known = {"the clock is green", f"a {kind} on the left", "a man walking", f"yellow {kind}", "sky", "a car"}
            assert len(set(phrases)) == len(phrases) == 5
            assert set(phrases) <= known
            assert np.array_equal(pixels[row].numpy(), decode(root / uid, 16))


def test_seeds_choose_regions_and_split(root: Path) -> None:
    first, other = opened(root), opened(root, caption_seed=1)
    assert list(opened(root).train.captions) == list(first.train.captions)
    assert list(first.train.uids) == list(other.train.uids)
    assert list(first.train.captions) != list(other.train.captions)
    assert list(opened(root, split_seed=1).train.uids) != list(first.train.uids)
    assert all(text.count(". ") == 5 for text in opened(root, regions=99).train.captions)


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = opened(root).fingerprint
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    assert opened(moved, tmp_path / "cache").fingerprint == before
    others = [opened(moved, size=17), opened(moved, caption_seed=1), opened(moved, split_seed=1), opened(moved, regions=4)]
    assert len({before, *(bundle.fingerprint for bundle in others)}) == 5
    edit(moved, lambda table: table[3]["regions"][0].update(phrase="a red clock"))
    assert opened(moved).fingerprint != before


def test_missing_places(root: Path, tmp_path: Path) -> None:
    complaint(None, "--data-root")
    complaint(tmp_path / "nowhere", str(tmp_path / "nowhere"), "--data-root")
    for folder in ("VG_100K", "VG_100K_2"):
        shutil.rmtree(root / folder)
    complaint(root, str(root), "VG_100K_2/", on_error="skip")
    (root / "region_descriptions.json").unlink()
    complaint(root, "region_descriptions.json cannot be read", "https://")


def test_other_layouts_are_rejected(root: Path) -> None:
    edit(root, lambda table: {"images": table})
    complaint(root, "region_descriptions.json", "not a list", on_error="skip")
    edit(root, lambda table: [5, None])
    complaint(root, "0 usable images", on_error="skip")


@pytest.mark.parametrize(
    ("change", "words", "left"),
    [
        (lambda table: table.insert(2, 5), ("[2]", "'regions'"), 20),
        (lambda table: table[2].pop("id") and None, ("[2]", "'id'"), 19),
        (lambda table: table[2].update(id=1.5), ("[2]", "'id'"), 19),
        (lambda table: table[2].update(regions={}), ("[2]", "'regions'"), 19),
        (lambda table: table[2]["regions"][1].pop("phrase") and None, ("[2]", "regions[1]", "'phrase'"), 20),
        (lambda table: table[2]["regions"].insert(1, "a clock"), ("[2]", "regions[1]", "'phrase'"), 20),
        (lambda table: table[2]["regions"][1].update(phrase=5), ("[2]", "regions[1]", "'phrase'"), 20),
    ],
)
def test_only_malformed_entries_are_skipped(
    root: Path, change: Callable[[Any], object], words: tuple[str, ...], left: int
) -> None:
    edit(root, change)
    complaint(root, "region_descriptions.json", *words, "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts["skipped_malformed"] == 1
    assert len(bundle.train) + len(bundle.holdout) + len(bundle.test) == left


def test_ids_may_be_strings(root: Path) -> None:
    plain = opened(root)
    edit(root, lambda table: [row.update(id=str(row["id"])) for row in table] and None)
    assert list(opened(root).train.captions) == list(plain.train.captions)


def test_copies_of_an_image_stay_together(root: Path) -> None:
    for image in range(1, 19, 3):
        for copy in (image + 1, image + 2):
            shutil.copy(
                root / f"VG_100K{'_2' if image % 2 else ''}/{image}.jpg", root / f"VG_100K{'_2' if copy % 2 else ''}/{copy}.jpg"
            )
    for seed in range(4):
        bundle = opened(root, holdout_share=0.5, split_seed=seed)
        assert leaks(bundle) == 0
        assert bundle.facts["images"] == 8
        assert bundle.facts["rows_sharing_an_image"] == 18
        assert len(bundle.train) + len(bundle.holdout) + len(bundle.test) == 20


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00"])
def test_lone_surrogates_are_replaced(root: Path, half: str) -> None:
    file = root / "region_descriptions.json"
    entries = json.loads(file.read_text())
    for row in (0, 7, 19):
        entries[row]["regions"][0]["phrase"] = "a HALF clock"
    file.write_text(json.dumps(entries).replace("HALF", half))
    bundle = opened(root, regions=99)
    texts = [text for part in (bundle.train, bundle.holdout, bundle.test) for text in part.captions]
    assert len(texts) == 20
    assert sum("a \ufffd clock" in text or "a ? clock" in text for text in texts) == 3
    json.dumps(texts, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "harm", [lambda text: text[:-10], lambda text: text + b"]", lambda text: text.replace(b"sky", b"\xff")]
)
def test_broken_json(root: Path, harm: Callable[[bytes], bytes]) -> None:
    file = root / "region_descriptions.json"
    file.write_bytes(harm(file.read_bytes()))
    complaint(root, "region_descriptions.json is not complete JSON", "download it again")


def test_memory_is_bounded_by_what_is_kept(root: Path) -> None:
    edit(root, lambda table: [row | {"regions": 5 * row["regions"]} for row in 60 * table])
    size = (root / "region_descriptions.json").stat().st_size
    expected = list(opened(root, on_error="skip").train.captions)
    tracemalloc.start()
    assert list(opened(root, on_error="skip").train.captions) == expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 3


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda table: table.append(table[0]), "duplicate", ("[20]", "image id 1 occurs twice")),
        (lambda table: table[4].update(regions=[]), "captionless", ("[4]", "image 5 has no region")),
        (lambda table: [row.update(phrase=" ") for row in table[4]["regions"]] and None, "captionless", ("image 5",)),
        (lambda table: table[4].update(id=77), "missing", ("lacks 1 of the images", "77.jpg")),
    ],
)
def test_single_faults_are_named_or_skipped(
    root: Path, change: Callable[[Any], object], kind: str, words: tuple[str, ...]
) -> None:
    edit(root, change)
    complaint(root, *words, "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert bundle.facts[f"skipped_{kind}"] == 1
    assert len(bundle.train) + len(bundle.holdout) + len(bundle.test) == (20 if kind == "duplicate" else 19)


def test_unreadable_images(root: Path, tmp_path: Path) -> None:
    (root / "VG_100K" / "4.jpg").write_bytes(b"no image")
    for _ in range(2):
        bundle = opened(root, tmp_path / "cache", on_error="skip")
        assert bundle.facts["skipped_unreadable"] == 1
        for part in (bundle.train, bundle.holdout, bundle.test):
            part.images.load(np.arange(len(part)))


def test_too_few_images(tmp_path: Path) -> None:
    complaint(make_genome(tmp_path / "two", 2), "too few")
    assert len(opened(make_genome(tmp_path / "three", 3)).train) == 1
