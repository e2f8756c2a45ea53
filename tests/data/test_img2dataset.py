"""Downloads without splits of their own, and lists in either order of caption and address."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.api.data import DataPlace, DatasetBundle
from bench.data import duplicates, tsv
from bench.data.img2dataset import CC12M, CC12MParams, Img2Dataset, Img2DatasetParams

from .conceptual_maker import KINDS, LOST, caption, make_download, url


def opened(root: Path, **params: Any) -> DatasetBundle:
    return CC12M().open(CC12MParams(**params), 16, DataPlace(root, None))


def parts(bundle: DatasetBundle) -> tuple[Any, ...]:
    return bundle.train, bundle.holdout, bundle.test


@pytest.fixture(params=[False, True], ids=["files", "tars"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of shards beside CC12M's list."""
    made = make_download(tmp_path / "cc", tars=request.param, tsv=False) / "train"
    (made / "cc12m.tsv").write_text("".join(f"{url(row)}\t{caption(row)}\n" for row in range(20)))
    return made


def test_a_share_is_held_out_by_image(root: Path, tmp_path: Path) -> None:
    bundle = opened(root, holdout_share=0.4, classes=KINDS)
    assert [len(part) for part in parts(bundle)] == [11, 3, 4]
    assert bundle.facts["not_downloaded"] == len(LOST)
    for part in parts(bundle):
        for uid, text, members in zip(part.uids, part.captions, part.members, strict=True):
            row = int(Path(uid).stem)
            assert text == caption(row)
            assert members == (row % 3,)
    shutil.copytree(root, tmp_path / "elsewhere")
    again = opened(tmp_path / "elsewhere", holdout_share=0.4, classes=KINDS)
    assert again.fingerprint == bundle.fingerprint
    assert list(again.train.uids) == list(bundle.train.uids)


def test_rows_of_one_image_are_on_one_side(tmp_path: Path) -> None:
    root = make_download(tmp_path / "cc", tars=False, tsv=False) / "train"
    files = sorted(root.glob("*/*.jpg"))
    for copy, original in zip(files[9:], files, strict=False):
        copy.write_bytes(original.read_bytes())
    bundle = opened(root, holdout_share=0.5)
    contents = [{(root / Path(uid).relative_to("images")).read_bytes() for uid in part.uids} for part in parts(bundle)]
    assert [len(each) for each in contents] == [5, 2, 2]
    assert len(set.union(*contents)) == bundle.facts["images"] == 9
    assert sum(map(len, parts(bundle))) == bundle.facts["rows_sharing_an_image"] == 18


def test_captions_of_the_list_where_no_file_has_them(tmp_path: Path) -> None:
    root = make_download(tmp_path / "cc", tars=False, tsv=False) / "train"
    for file in [*root.glob("*/*.txt"), *root.glob("*/*.json")]:
        file.unlink()
    (root / "mine.tsv").write_text("".join(f"{url(row)}\t{caption(row)}\n" for row in range(20)))
    bundle = Img2Dataset().open(Img2DatasetParams(list="mine.tsv"), 16, DataPlace(root, None))
    assert all(text == caption(int(Path(uid).stem)) for uid, text in zip(bundle.train.uids, bundle.train.captions, strict=True))


@pytest.mark.parametrize("header", ["", "url\tcaption\n", "Caption\tURL\n"])
@pytest.mark.parametrize("addresses_first", [False, True])
def test_a_list_in_either_order(tmp_path: Path, addresses_first: bool, header: str) -> None:
    pairs = [(caption(row), url(row)) for row in range(4)]
    lines = ["\t".join(pair[::-1] if addresses_first else pair) for pair in pairs]
    (tmp_path / "list.tsv").write_text(header + "\n".join([*lines, "no tab here"]))
    table = tsv.read(tmp_path / "list.tsv")
    assert [*table.captions][:4] == [text for text, _ in pairs]
    assert [*table.urls][:4] == [address for _, address in pairs]
    assert len(table) == 5
    assert not {caption(0), url(0)} & {table.captions[4], table.urls[4]}


def test_images_are_compared_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = DataPlace(root, tmp_path / "cache")
    first = CC12M().open(CC12MParams(classes=KINDS), 16, place)

    def unexpected(*given: Any) -> None:
        raise AssertionError("images were read again")

    monkeypatch.setattr(duplicates, "first_image", unexpected)
    again = CC12M().open(CC12MParams(classes=KINDS), 16, place)
    assert [list(part.uids) for part in parts(again)] == [list(part.uids) for part in parts(first)]
