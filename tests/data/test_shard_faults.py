"""Faults of shards are named and counted, in folders and in tars alike."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bench.data.decoding import decode

from .conceptual_maker import TSV
from .shard_maker import LAYOUTS, captions, download, each_layout, error_of, opened, pairs, picture, searched, write


@each_layout
@pytest.mark.parametrize("ending", ["gif", "GIF", "tif", "bmp", "jp2", "avif", "ppm", "jpe", "webp"])
def test_images_of_any_known_format_are_read(tmp_path: Path, layout: str, ending: str) -> None:
    kind = {"tif": "TIFF", "jp2": "JPEG2000", "jpe": "JPEG"}.get(ending, ending.upper())
    root = download(tmp_path, layout, {f"7.{ending}": picture(3, kind), "7.txt": b"a lemon", **pairs(1)})
    bundle, findings = searched(root)
    assert captions(bundle) == {"000000001.jpg": "a banana 1", f"7.{ending}": "a lemon"}
    assert not findings.counts
    loaded = bundle.train.images.load(np.arange(2)).numpy()[1]
    assert np.array_equal(loaded, decode("7", 16, picture(3, kind)))


@each_layout
def test_samples_without_an_image_and_other_files_are_counted_and_named(tmp_path: Path, layout: str) -> None:
    odd = {"5.heic": b"x", "5.txt": b"a lemon", "6.txt": b"no image", "6.json": b"{}", "000000001.npy": b"x", "LICENSE": b"x"}
    root = download(tmp_path, layout, {**pairs(1, 2), **odd})
    bundle, findings = searched(root)
    assert list(captions(bundle)) == ["000000001.jpg", "000000002.jpg"]
    assert dict(findings.counts) == {"imageless": 2}
    assert all(word in findings.first["imageless"] for word in ("1 .heic", "1 .txt", "5.heic"))
    assert bundle.facts["ignored_train"] == "1 .npy, 1 files without a suffix"
    assert opened(root).facts["skipped_imageless"] == 2


@each_layout
def test_files_of_macos_are_ignored(tmp_path: Path, layout: str) -> None:
    mac = b"\0\5\x16\7Mac OS X" + b"\xff" * 50
    members = {**pairs(1, 2), "._000000001.jpg": mac, "._000000001.txt": mac, ".DS_Store": mac}
    if layout == "tars":
        members = {f"./{name}": content for name, content in members.items()} | {
            "__MACOSX/000000001.jpg": mac,
            "a/._b.jpg": mac,
        }
    root = download(tmp_path, layout, members)
    for name in ("._00000.tar", "._00000", ".DS_Store"):
        (root / "train" / name).write_bytes(mac)
    (root / "train" / "__MACOSX").mkdir()
    bundle, findings = searched(root)
    assert list(captions(bundle)) == ["000000001.jpg", "000000002.jpg"]
    assert not findings.counts
    assert "ignored_train" not in bundle.facts


@each_layout
def test_lone_surrogates_are_replaced(tmp_path: Path, layout: str) -> None:
    notes = {"8.jpg": picture(8), "8.json": b'{"caption": "a teapot \\ud83d", "url": "\\udfff"}'}
    whole = {"9.jpg": picture(9), "9.json": b'{"caption": "a teapot \\ud83d\\ude00"}'}
    bundle = opened(download(tmp_path, layout, {**notes, **whole}))
    assert list(bundle.train.captions) == ["a teapot \ufffd", "a teapot \U0001f600"]
    from bench.models.factory import tokenizer

    assert tokenizer("small-64")(list(bundle.train.captions)).shape[0] == 2
    assert "".join(bundle.train.captions).encode()


@each_layout
def test_broken_links_are_missing_images(tmp_path: Path, layout: str) -> None:
    root = download(tmp_path, layout, pairs(1, 2, 3, 4))
    if layout == "files":
        for number in (2, 3):
            (root / f"train/00000/{number:09d}.jpg").unlink()
        os.symlink("../nowhere", root / "train/00000/000000002.jpg")
        (root / "train/00000/000000003.jpg").mkdir()
    else:
        with tarfile.open(root / "train/00000.tar", "w") as tar:
            for name, content in pairs(1, 2, 3, 4).items():
                member = tarfile.TarInfo(name)
                if name in ("000000002.jpg", "000000003.jpg"):
                    member.type, member.linkname = tarfile.SYMTYPE, "../nowhere"
                    content = b""
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    error_of(root, "2 images", "000000002.jpg", "restore them", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert list(captions(bundle)) == ["000000001.jpg", "000000004.jpg"]
    assert bundle.facts["skipped_missing"] == 2
    assert searched(root)[1].counts == {"missing": 2}


def test_a_shard_that_is_a_broken_link(tmp_path: Path) -> None:
    for layout, name in (("files", "00001"), ("tars", "00001.tar")):
        root = download(tmp_path / layout, layout, pairs(1, 2))
        os.symlink("nowhere", root / "train" / name)
        error_of(root, f"train/{name}", "restore them")
        assert len(opened(root, on_error="skip").train) == 2


@each_layout
@pytest.mark.parametrize("counts", ["stats", "parquet"])
def test_fewer_samples_than_were_written(tmp_path: Path, layout: str, counts: str) -> None:
    root = download(tmp_path, layout, pairs(1, 2, 3))

    def record(count: int) -> str:
        if counts == "stats":
            (root / "train/00000_stats.json").write_text(json.dumps({"count": count + 2, "successes": count}))
            return "00000_stats.json"
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        status = ["success"] * count + ["failed_to_download"] * 2
        parquet.write_table(
            arrow.table({"status": status, "key": list(map(str, range(count + 2)))}), root / "train/00000.parquet"
        )
        return "00000.parquet"

    name = record(3)
    assert len(opened(root).train) == 3
    record(5)
    error_of(root, f"it has 3 samples where {name} counts 5", "00000", "--set data.on_error=skip")
    bundle = opened(root, on_error="skip")
    assert (len(bundle.train), bundle.facts["skipped_incomplete"]) == (3, 1)
    assert searched(root)[1].counts == {"incomplete": 1}


def test_invalid_sample_counts_are_ignored(tmp_path: Path) -> None:
    root = download(tmp_path, "tars", pairs(1, 2))
    write(root / "train", "tars", {}, "00001")
    for content in (b"", b"[]", b"{", b'{"successes": "9"}', b'{"successes": true}', b"[" * 10**5, b"\xff"):
        for shard in ("00000", "00001"):
            (root / f"train/{shard}_stats.json").write_bytes(content)
            (root / f"train/{shard}.parquet").write_bytes(content)
        assert len(opened(root).train) == 2


@each_layout
def test_no_image_has_a_caption(tmp_path: Path, layout: str) -> None:
    """Skipping these images would leave none: the message has another remedy, and the search keeps its findings."""
    labels = {name.replace(".txt", ".cls"): content for name, content in pairs(1, 2, 3).items()}
    root = download(tmp_path, layout, labels, {**pairs(5, 6), "7.jpg": picture(7)})
    message = error_of(root, "3 images without a caption", "labels (.cls) but no captions", "to a .txt")
    assert "on_error" not in message
    error_of(root, "has no images for the part 'train'", "labels (.cls) but no captions", on_error="skip")
    bundle, findings = searched(root)
    assert (len(bundle.train), findings.counts["captionless"], findings.counts["empty"]) == (0, 4, 1)
    assert "labels (.cls)" in findings.first["captionless"]
    assert bundle.facts["ignored_train"] == "3 .cls"


def test_no_image_in_a_known_format(tmp_path: Path) -> None:
    error_of(download(tmp_path, "tars", {"1.heic": b"x", "2.heic": b"x"}), "no images for the part 'train'", "2 .heic")


@each_layout
def test_captions_that_are_not_utf8(tmp_path: Path, layout: str) -> None:
    texts = {
        1: b"caf\xe9",
        2: "a lemon".encode("utf-16"),
        3: b"\xef\xbb\xbfa lemon \r\n",
        4: b" \n\t",
        5: b"x" * (2**20 + 1),
        6: "a".encode("utf-16-le"),
    }
    members = {f"{number}.txt": content for number, content in texts.items()} | {
        f"{number}.jpg": picture(number) for number in texts
    }
    root = download(
        tmp_path, layout, {**members, "1.json": b'{"caption": "an old one"}', "4.json": b'{"caption": "a goldfish"}'}
    )
    error_of(root, "4 images without a caption", "train/00000", "1.jpg", "4 of their files are not UTF-8 text")
    assert captions(opened(root, on_error="skip")) == {"3.jpg": "a lemon", "4.jpg": "a goldfish"}


@each_layout
def test_names_that_are_not_utf8_or_not_numbers(tmp_path: Path, layout: str) -> None:
    odd = ["caf\udce9", "²", "٣", "9" * 200, "a\nb"]
    members = {name + ".jpg": picture(number) for number, name in enumerate(odd)} | {name + ".txt": b"a lemon" for name in odd}
    members.update({"²2.jpg": picture(70), "5" * 100 + ".jpg": picture(71), "0.jpg": picture(72), "٢.jpg": picture(73)})
    root = download(tmp_path, layout, members)
    (root / TSV["train"]).write_text("a lemon\thttp://x/0\n" * 4)
    error_of(root, "1 images whose names are not UTF-8", "caf\\udce9.jpg", "rename")
    bundle = opened(root, on_error="skip")
    assert set(captions(bundle).values()) == {"a lemon"}
    assert len(bundle.train) == 5
    assert (bundle.facts["skipped_unreadable"], bundle.facts["skipped_captionless"]) == (1, 3)


@each_layout
def test_images_with_the_same_name(tmp_path: Path, layout: str) -> None:
    """Of two suffixes the first in the alphabet is kept; a copy has no caption of its own."""
    members = {
        "3.png": picture(4, "PNG"),
        **pairs(1),
        "3.jpg": picture(3),
        "3.txt": b"a banana 3",
        "000000001 (1).jpg": picture(1),
    }
    root = download(tmp_path, layout, members)
    error_of(root, "1 images whose name", "3.png", "--set data.on_error=skip")
    (root / TSV["train"]).write_text("\n".join(f"a banana {row}\thttp://x/{row}" for row in range(4)))
    bundle = opened(root, on_error="skip")
    assert captions(bundle) == {"000000001.jpg": "a banana 1", "3.jpg": "a banana 3"}
    assert (bundle.facts["skipped_duplicate"], bundle.facts["skipped_captionless"]) == (1, 1)
    assert "remove copies" in searched(root)[1].first["captionless"]


def test_shards_with_gaps_empty_ones_and_other_layouts(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        root = download(tmp_path / layout, layout, {})
        for number in (3, 17):
            write(root / "train", layout, pairs(number), f"{number:05d}")
        assert list(captions(opened(root))) == ["000000003.jpg", "000000017.jpg"]
    write(tmp_path / "files/train", "tars", pairs(5), "00004")
    error_of(tmp_path / "files", "00004.tar, which has no folder of its own", "data.layout=files or tars")
    assert len(opened(tmp_path / "files", layout="files").train) == 2
    (tmp_path / "files/train/00004.tar").rename(tmp_path / "files/train/00003.tar")
    assert len(opened(tmp_path / "files").train) == 2


def test_images_without_a_shard(tmp_path: Path) -> None:
    root = download(tmp_path, "files", {})
    (root / "train/00000").rename(root / "train/photos")
    error_of(root, "contains no shards", "it contains photos")
    (root / "train/1.jpg").write_bytes(picture(1))
    error_of(root, "move its images, such as 1.jpg", "into a subfolder 00000/")
