from pathlib import Path

import numpy as np
import pytest

from bench.data import duplicates
from bench.data.columns import Texts, TextsBuilder
from bench.data.mentions import MentionIndex
from bench.errors import UserError


def texts(*each: str) -> Texts:
    maker = TextsBuilder()
    for text in each:
        maker.append(text)
    return maker.texts()


def test_first_of_equal_keys() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 300):
        one, two = rng.integers(6, size=count), rng.integers(4, size=(count, 2)).astype(np.uint64)
        rows = [(int(a), *b.tolist()) for a, b in zip(one, two, strict=True)]
        assert duplicates.first_occurrence(one, two).tolist() == [rows.index(row) for row in rows]
        assert duplicates.occurrence_number(one).tolist() == [one[:row].tolist().count(one[row]) for row in range(count)]


def test_images_are_duplicates_if_all_bytes_are_equal() -> None:
    """Large ones that differ in one byte anywhere, or in length, are others."""
    base = np.random.default_rng(0).bytes(50_000)
    changed = [base[:place] + bytes([base[place] ^ 1]) + base[place + 1 :] for place in (0, 25_000, 49_999)]
    contents = [base, *changed, base, base[:-1], b"", b"", b"a", b"b", b"a", changed[2]]
    read: list[int] = []

    def piece(row: int, start: int, count: int) -> bytes:
        found = contents[row][start : start + count]
        read.append(len(found))
        return found

    sizes = np.array([len(content) for content in contents])
    assert duplicates.first_image(sizes, piece).tolist() == [0, 1, 2, 3, 0, 5, 6, 7, 8, 9, 8, 3]
    read.clear()
    rng = np.random.default_rng(1)
    contents[:] = [rng.bytes(50_000) for _ in range(100)]
    assert duplicates.first_image(np.full(100, 50_000), piece).tolist() == list(range(100))
    assert sum(read) <= 100 * 4096


def test_an_unreadable_file_equals_no_other(tmp_path: Path) -> None:
    assert duplicates.read_bytes(str(tmp_path / "a"), 0, 5) != duplicates.read_bytes(str(tmp_path / "b"), 0, 5)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert duplicates.read_bytes(str(tmp_path / "a"), 3, 4) == b"3456"


def test_repeated_rows_have_the_image_and_caption_of_an_earlier_row() -> None:
    image_of = np.array([0, 1, 0, 0, 1, 5])
    found = duplicates.is_repeated(image_of, texts("a", "a", "b", "a", "b", "a"))
    assert found.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_split_keeps_images_whole_and_their_share(share: float) -> None:
    image_of = np.random.default_rng(0).integers(100, size=1000) * 7
    rows = np.flatnonzero(image_of != 21)
    parts = duplicates.split_by_image(image_of, rows, share, 0, "it has")
    assert sorted(np.concatenate(list(parts.values()))) == rows.tolist()
    images = {part: set(image_of[mine].tolist()) for part, mine in parts.items()}
    assert sum(map(len, images.values())) == 99
    assert len(images["holdout"]) + len(images["test"]) == round(99 * share)
    with pytest.raises(UserError, match="it has 2 usable images, too few"):
        duplicates.split_by_image(np.array([0, 0, 4, 4, 4]), np.arange(5), share, 0, "it has")


def test_members_are_of_all_captions_of_an_image() -> None:
    index = MentionIndex(["cat", "dog", "cow"])
    captions = texts("a cat", "a dog", "a cow", "nothing", "a dog and a cat")
    image_of = np.array([3, 0, 3, 0, 4])
    members = duplicates.ImageMembers(image_of, duplicates.ImageCaptions(captions, image_of), index)
    assert list(members) == [(0, 2), (1,), (0, 2), (1,), (0, 1)]
