"""Two layouts of the same data mean the same, an image is one whatever its names, and the index follows the files."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.data import DataPlace, DatasetBundle
from bench.data.conceptual import CC100K, SubsetParams

from .conceptual_maker import TSV
from .shard_maker import LAYOUTS, Members, captions, download, opened, pairs, picture, write

each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def made_up(rng: random.Random) -> tuple[dict[str, bytes], str, dict[str, str]]:
    """A shard with all that people do to one, a table, and the captions that are right, said again here."""
    count, members, right = rng.randrange(3, 12), {}, {}
    offset = rng.choice((0, 0, 0, 1))
    table = [rng.choice((f"row {row}", f" row {row} ", f"a banana {row}", "")) for row in range(count + rng.randrange(-2, 3))]
    evidence = []
    for row in range(count):
        stem, ending = f"{row:09d}", rng.choice((".jpg", ".JPG", ".png"))
        members[stem + ending] = picture(row, "PNG" if ending == ".png" else "JPEG")
        text = rng.choice((None, None, f"a banana {row}", "NEW", " \n"))
        notes = rng.choice((None, None, {"caption": f"noted {row}"}, {"url": f"http://x/{row + offset}"}, {"caption": None}))
        if text is not None:
            members[stem + rng.choice((".txt", ".TXT"))] = text.encode()
        if notes is not None:
            members[f"{stem}.json"] = json.dumps(notes).encode()
        beside = (text or "").strip() or str((notes or {}).get("caption") or "")
        url = (notes or {}).get("url")
        there = row < len(table)
        if url:
            evidence.append(there and url == f"http://x/{row}")
        else:
            evidence.append(there and beside in ("", table[row].strip()))
        own = table[row].strip() if there and url in (None, f"http://x/{row}") else ""
        right[stem + ending] = beside or f"TABLE{own}"
    believed = evidence[0] and evidence[-1]
    right = {name: (said[5:] if believed else "") if said.startswith("TABLE") else said for name, said in right.items()}
    lines = "".join(f"{said}\thttp://x/{row}\n" for row, said in enumerate(table))
    return members, lines, {name: said for name, said in right.items() if said}


def test_both_layouts_give_the_same_captions(tmp_path: Path) -> None:
    rng = random.Random(5)
    for trial in range(30):
        members, lines, right = made_up(rng)
        if not right:
            continue
        bundles = []
        for layout in LAYOUTS:
            shuffled = dict(rng.sample(sorted(members.items()), len(members)))
            root = download(tmp_path / f"{trial}{layout}", layout, shuffled)
            (root / TSV["train"]).write_text(lines)
            bundles.append(opened(root, on_error="skip"))
        assert captions(bundles[0]) == captions(bundles[1]) == right
        assert bundles[0].facts == bundles[1].facts
        every = np.arange(len(right))
        assert np.array_equal(bundles[0].train.images.load(every), bundles[1].train.images.load(every))
        assert [uid.replace(".tar", "") for uid in bundles[1].holdout.uids] == list(bundles[0].holdout.uids)


@each_layout
def test_text_files_take_precedence_over_the_table(tmp_path: Path, layout: str) -> None:
    """Of the same length too, and of one image in the middle."""
    members = pairs(*range(9))
    root = download(tmp_path, layout, {**members, "000000004.txt": b"a ranana 4"})
    (root / TSV["train"]).write_text("".join(f"a banana {row}\thttp://x/{row}\n" for row in range(9)))
    assert list(opened(root).train.captions) == [f"a {'ranana' if row == 4 else 'banana'} {row}" for row in range(9)]


@each_layout
def test_an_image_from_another_address_has_no_row(tmp_path: Path, layout: str) -> None:
    """Its number is that of a row, its address is not."""
    members = {f"{row}.jpg": picture(row) for row in range(5)}
    root = download(tmp_path, layout, {**members, "2.json": b'{"url": "http://elsewhere/2"}'})
    (root / TSV["train"]).write_text("".join(f"a banana {row}\thttp://x/{row}\n" for row in range(5)))
    assert list(captions(opened(root, on_error="skip"))) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]


def test_the_index_follows_texts_written_in_place(tmp_path: Path) -> None:
    root, cache = download(tmp_path, "files", pairs(*range(40))), tmp_path / "cache"
    before = opened(root, cache)
    folder = root / "train/00000"
    then = folder.stat()
    for text in folder.glob("*.txt"):
        text.write_bytes(text.read_bytes().upper())
    os.utime(folder, ns=(then.st_atime_ns, then.st_mtime_ns))
    after = opened(root, cache)
    assert list(after.train.captions) == [caption.upper() for caption in before.train.captions]
    assert after.fingerprint != before.fingerprint


@each_layout
def test_a_changed_table_invalidates_only_indices_that_used_it(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.data import shard_cache

    root, cache = download(tmp_path, layout, pairs(0, 1)), tmp_path / "cache"
    write(root / "train", layout, {"000000002.jpg": picture(2)}, "00001")
    table = root / TSV["train"]
    table.write_text("a banana 0\thttp://x\na banana 1\thttp://x\na lemon\thttp://x\n")
    assert opened(root, cache).train.captions[2] == "a lemon"
    table.write_text("a banana 0\thttp://x\na banana 1\thttp://x\na goldfish\thttp://x\n")
    made = []
    for name in ("of_folder", "of_tar"):
        inner = getattr(shard_cache, name)
        monkeypatch.setattr(shard_cache, name, lambda path, rest, inner=inner: made.append(path.name) or inner(path, rest))
    assert opened(root, cache).train.captions[2] == "a goldfish"
    assert [name[:5] for name in made] == ["00001"]


def shared_bytes(bundle: DatasetBundle) -> set[bytes]:
    """Images that holdout and test both have."""
    parts = (
        {image.numpy().tobytes() for image in part.images.load(np.arange(len(part)))} for part in (bundle.holdout, bundle.test)
    )
    return set.intersection(*parts)


def val_with_copies(rng: random.Random) -> Members:
    """Every image under two or three names, of one size each, with captions of their own."""
    members = {}
    for row in range(40):
        members[f"{row:09d}.bmp"] = picture(rng.randrange(15), "BMP")
        members[f"{row:09d}.txt"] = f"a banana {row}".encode()
    return members


@each_layout
def test_copies_of_an_image_are_in_one_split(tmp_path: Path, layout: str) -> None:
    for seed in range(5):
        root = download(tmp_path / str(seed), layout, pairs(100), val_with_copies(random.Random(seed)))
        for _ in range(2):
            bundle = opened(root, root / "cache")
            assert len(bundle.holdout) + len(bundle.test) == 40
            assert not shared_bytes(bundle)


def test_without_copies_the_split_is_a_share(tmp_path: Path) -> None:
    bundle = opened(download(tmp_path, "files", pairs(100), pairs(*range(40))))
    assert (len(bundle.holdout), len(bundle.test)) == (30, 10)


@each_layout
def test_training_images_that_are_in_validation_too(tmp_path: Path, layout: str) -> None:
    train = {**pairs(1, 2, 3), "x.jpg": picture(7), "x.txt": b"another caption", "e.jpg": b"", "e.txt": b"empty"}
    val = {**pairs(7, 8, 9, 10), "f.jpg": b"", "f.txt": b"empty"}
    root = download(tmp_path, layout, train, val)
    bundle = opened(root)
    assert len(bundle.train) == 5
    assert str(bundle.facts["training_images_in_validation"]).startswith("1, the first train/00000")
    assert str(bundle.facts["training_images_in_validation"]).endswith("/x.jpg")
    without = opened(root, overlap="drop")
    assert list(captions(without)) == ["000000001.jpg", "000000002.jpg", "000000003.jpg", "e.jpg"]
    assert without.fingerprint != bundle.fingerprint
    assert "training_images_in_validation" not in opened(download(tmp_path / "b", layout, pairs(1), pairs(2, 3, 4))).facts


def test_training_images_in_validation_are_counted_in_a_subset(tmp_path: Path) -> None:
    root = download(tmp_path, "files", pairs(*range(20)), pairs(*range(5, 15)))

    def subset(**params: Any) -> DatasetBundle:
        return CC100K().open(SubsetParams(pairs=8, **params), 16, DataPlace(root, None))

    bundle = subset()
    numbers = [int(Path(uid).stem) for uid in bundle.train.uids]
    shared = [number for number in numbers if 5 <= number < 15]
    assert str(bundle.facts["training_images_in_validation"]) == f"{len(shared)}, the first train/00000/{shared[0]:09d}.jpg"
    without = [int(Path(uid).stem) for uid in subset(overlap="drop").train.uids]
    assert len(without) == 8
    assert {*numbers} - {*shared} <= {*without} <= {*range(5), *range(15, 20)}


@each_layout
def test_equal_pairs_are_one(tmp_path: Path, layout: str) -> None:
    """In several shards too; not where the caption is another, or the image of the same size is."""
    train = {**pairs(1, 2), "1 (1).jpg": picture(1), "1 (1).txt": b"a banana 1", "c.jpg": picture(1), "c.txt": b"a lemon"}
    train |= {"d.bmp": picture(5, "BMP"), "d.txt": b"a nut", "e.bmp": picture(6, "BMP"), "e.txt": b"a nut"}
    root = download(tmp_path, layout, train)
    write(root / "train", layout, pairs(2, 3), "00001")
    for _ in range(2):
        bundle = opened(root, tmp_path / "cache")
        assert bundle.facts["skipped_duplicate"] == 2
        names = sorted(captions(bundle))
        assert len(bundle.train) == len(names) == 6
        assert names[2:] == ["000000003.jpg", "c.jpg", "d.bmp", "e.bmp"]
