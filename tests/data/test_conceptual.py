import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.api.data import DataPlace, DatasetBundle
from bench.data import shard_cache
from bench.data.conceptual import CC1M, CC3M, CC100K, CC3MParams, SubsetParams
from bench.data.decoding import decode
from bench.errors import UserError
from bench.registry import datasets

from .conceptual_maker import KINDS, LOST, TSV, caption, make_download, sample, write_tar, write_tsv


def opened(root: Path | None, cache: Path | None = None, size: int = 16, **params: Any) -> DatasetBundle:
    return CC3M().open(CC3MParams(**params), size, DataPlace(root, cache))


def complaint(root: Path | None, *words: str, **params: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(root, **params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


def row_of(uid: str) -> int:
    return int(Path(uid).stem)


@pytest.fixture(params=[False, True], ids=["files", "tars"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return make_download(tmp_path / "cc", tars=request.param)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return make_download(tmp_path / "cc", tars=False)


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    return make_download(tmp_path / "cc", tars=True)


def test_captions_images_and_members_correspond(root: Path, tmp_path: Path) -> None:
    assert datasets["cc3m"].plugin is CC3M
    for _ in range(2):
        bundle = opened(root, tmp_path / "cache")
        assert [len(part) for part in parts(bundle)] == [18, 8, 2]
        assert bundle.facts["not_downloaded_train"] == bundle.facts["not_downloaded_val"] == len(LOST)
        assert bundle.tasks == ()
        assert bundle.task_reason
        for part in parts(bundle):
            assert len(set(part.uids)) == len(part)
            pixels = part.images.load(np.arange(len(part)))
            for place, uid in enumerate(part.uids):
                row = row_of(uid)
                assert part.captions[place] == caption(row)
                assert [bundle.vocabulary.names[member] for member in part.members[place]] == [KINDS[row % 3]]
                (tmp_path / "one.jpg").write_bytes(sample(row)[".jpg"])
                assert np.array_equal(pixels[place].numpy(), decode(tmp_path / "one.jpg", 16))
        assert sorted(map(row_of, bundle.train.uids)) == [row for row in range(20) if row not in LOST]
        assert bundle.train.captions[2:4] == [bundle.train.captions[2], bundle.train.captions[3]]
        assert len(bundle.train.uids[1:5]) == len(bundle.train.members[1:5]) == 4


def test_layouts(tmp_path: Path, files: Path) -> None:
    make_download(tmp_path / "both", tars=True)
    for split in ("train", "val"):
        for shard in (files / split).iterdir():
            if shard.is_dir():
                shutil.copytree(shard, tmp_path / "both" / split / shard.name)
    for layout, tarred in (("auto", False), ("files", False), ("tars", True)):
        assert (".tar" in opened(tmp_path / "both", layout=layout).train.uids[0]) == tarred
    complaint(files, "train", "00000.tar", layout="tars")


def test_captions_come_from_text_files_without_a_tsv(root: Path) -> None:
    with_table = opened(root)
    for name in TSV.values():
        (root / name).unlink()
    bundle = opened(root)
    assert list(bundle.train.captions) == list(with_table.train.captions)
    assert bundle.fingerprint == with_table.fingerprint
    assert "not_downloaded_train" not in bundle.facts


def test_a_tsv_alone_gives_the_captions(files: Path) -> None:
    expected = list(opened(files).train.captions)
    for beside in [*files.rglob("0*/*.txt"), *files.rglob("0*/*.json")]:
        beside.unlink()
    assert list(opened(files).train.captions) == expected
    write_tsv(files / TSV["train"], 20, header=True)
    assert list(opened(files).train.captions) == expected
    (files / TSV["train"]).write_bytes((files / TSV["train"]).read_bytes().replace(b"\n", b"\r\n"))
    assert list(opened(files).train.captions) == expected
    (files / TSV["train"]).unlink()
    complaint(files, "18 images without a caption", "00000/000000000.jpg", TSV["train"])


def test_a_tsv_whose_lines_do_not_match_is_not_used(files: Path) -> None:
    table = files / TSV["train"]
    table.write_text("another caption\thttp://example.org/x\n" + table.read_text())
    bundle = opened(files)
    assert [caption(row_of(uid)) for uid in bundle.train.uids] == list(bundle.train.captions)
    for notes in files.rglob("0*/*.json"):
        notes.unlink()
    bundle = opened(files)
    assert [caption(row_of(uid)) for uid in bundle.train.uids] == list(bundle.train.captions)


def test_the_index_is_cached_until_a_shard_changes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def spy(name: str) -> None:
        inner: Callable[..., Any] = getattr(shard_cache, name)

        def counting(path: Path, *rest: Any) -> Any:
            made.append(f"{path.parent.name}/{path.stem}")
            return inner(path, *rest)

        monkeypatch.setattr(shard_cache, name, counting)

    spy("of_folder")
    spy("of_tar")
    cache = tmp_path / "cache"
    first = opened(root, cache).fingerprint
    assert sorted(made) == ["train/00000", "train/00001", "train/00002", "val/00000", "val/00001"]
    made.clear()
    assert opened(root, cache).fingerprint == first
    assert made == []
    if (root / "train" / "00001").is_dir():
        (root / "train" / "00001" / "000000009.jpg").unlink()
    else:
        write_tar(root / "train" / "00001.tar", [8, 10, 11, 12, 13, 14, 15])
    changed = opened(root, cache)
    assert made == ["train/00001"]
    assert changed.fingerprint != first
    assert len(changed.train) == 17
    assert changed.fingerprint == opened(root).fingerprint
    for kept in (cache / "shards").iterdir():
        kept.write_bytes(b"PK damaged")
    assert opened(root, cache).fingerprint == changed.fingerprint


def test_shards_indexed_side_by_side_are_those_indexed_here(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(path: Path, table: object) -> None:
        raise AssertionError(f"{path} was indexed here")

    expected = opened(root)
    monkeypatch.setattr(shard_cache, "_MANY", 1)
    monkeypatch.setattr(shard_cache, "available_cores", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(shard_cache, "_make", unexpected)
        assert opened(root, tmp_path / "cache").fingerprint == expected.fingerprint
    for kept in (tmp_path / "cache" / "shards").iterdir():
        kept.unlink()
    for file in root.glob("train/00000/*"):  # without texts captions come from the table, which these processes do not read
        if file.suffix != ".jpg":
            file.unlink()
    assert opened(root, tmp_path / "cache").fingerprint == opened(root).fingerprint


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    before = opened(root).fingerprint
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    assert opened(moved, tmp_path / "cache").fingerprint == before
    (moved / "train").rename(moved / "training")
    assert opened(moved, train_images="training").fingerprint == before
    assert len({before, opened(root, size=17).fingerprint, opened(root, test_share=0.5).fingerprint}) == 3


def test_missing_places(root: Path, tmp_path: Path) -> None:
    complaint(None, "--data-root")
    complaint(tmp_path / "nowhere", str(tmp_path / "nowhere"), "--data-root")
    complaint(root, str(root / "images"), "cannot be read", train_images="images")
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    complaint(root, str(root / "val"), "no shards")


def test_a_broken_tsv(files: Path) -> None:
    lines = (files / TSV["train"]).read_bytes().splitlines()
    (files / TSV["train"]).write_bytes(b"\n".join([*lines[:4], b"caf\xe9\thttp://x", *lines[5:]]))
    complaint(files, f"{TSV['train']}, line 5 is not UTF-8")
    (files / TSV["train"]).write_bytes(b"")
    complaint(files, TSV["train"], "is empty")


def test_a_line_without_a_tab_has_no_caption(files: Path) -> None:
    lines = (files / TSV["train"]).read_bytes().splitlines()
    (files / TSV["train"]).write_bytes(b"\n".join([*lines[:4], b"no address", *lines[5:]]))
    assert len(opened(files).train) == 18
    for beside in [*files.rglob("0*/*.txt"), *files.rglob("0*/*.json")]:
        beside.unlink()
    complaint(files, "1 images without a caption", "000000004.jpg", "--set data.on_error=skip")
    bundle = opened(files, on_error="skip")
    assert bundle.facts["skipped_captionless"] == 1
    assert len(bundle.train) == 17


def test_damaged_images(root: Path, tmp_path: Path) -> None:
    if (root / "train" / "00000").is_dir():
        (root / "train" / "00000" / "000000004.jpg").write_bytes(b"no image")
    else:
        file = root / "train" / "00000.tar"
        file.write_bytes(file.read_bytes().replace(sample(4)[".jpg"], b"x" * len(sample(4)[".jpg"])))
    bundle = opened(root)
    with pytest.raises(UserError, match=r"000000004\.jpg.*--set data\.on_error=skip"):
        bundle.train.images.load(np.arange(len(bundle.train)))
    for _ in range(2):
        bundle = opened(root, tmp_path / "cache", on_error="skip")
        assert bundle.facts["skipped_unreadable"] == 1
        assert len(bundle.train.images.load(np.arange(17))) == len(bundle.train) == 17


def test_damaged_tars(tars: Path) -> None:
    file = tars / "train" / "00001.tar"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    complaint(tars, str(file), "download this shard again")
    file.write_bytes(b"x" * 2000)
    complaint(tars, str(file), "cannot be read as a tar")
    write_tar(file, [8, 9, 8])
    complaint(tars, "1 images whose name", "occurs twice", "train/00001.tar/000000008.jpg", "--set data.on_error=skip")
    assert opened(tars, on_error="skip").facts["skipped_duplicate"] == 1
    file.write_bytes(whole)
    bundle = opened(tars)
    file.unlink()
    with pytest.raises(UserError, match=r"00001\.tar is missing"):
        bundle.train.images.load(np.arange(len(bundle.train)))


def subset(root: Path, plugin: type[CC3M], **params: Any) -> DatasetBundle:
    return plugin().open(SubsetParams(**params), 16, DataPlace(root, None))


def test_subsets_are_random_by_seed_and_nested(root: Path) -> None:
    assert (CC1M.size, CC100K.size) == (1_000_000, 100_000)
    large, small = subset(root, CC1M, pairs=12), subset(root, CC100K, pairs=5)
    assert set(small.train.uids) < set(large.train.uids)
    assert list(large.train.uids) == sorted(large.train.uids)
    assert [caption(row_of(uid)) for uid in large.train.uids] == list(large.train.captions)
    assert list(subset(root, CC1M, pairs=12).train.uids) == list(large.train.uids)
    assert list(subset(root, CC1M, pairs=12, seed=1).train.uids) != list(large.train.uids)
    assert list(large.holdout.uids) == list(opened(root).holdout.uids)
    others = [subset(root, CC1M, pairs=12, seed=1), subset(root, CC100K, pairs=12), opened(root)]
    assert len({bundle.fingerprint for bundle in [large, small, *others]}) == 5
    with pytest.raises(UserError, match=r"18 usable pairs, fewer than 100,000.*data\.pairs"):
        subset(root, CC100K)
