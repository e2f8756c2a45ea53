"""Writers of training sets, and what JPEG leaves of a trigger."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.api.data import DataPlace
from bench.data.csv_pairs import CsvPairs, CsvPairsParams
from bench.export import formats
from bench.export.encoding import Encoding, trigger_loss

CAPTIONS = ["plain", 'a "quoted", caption', "two\nlines", "猫 — très bon", "tab\there", " spaces "]


def noise(count: int = 6, side: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8))


def written(folder: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    monkeypatch.setattr(formats, "SHARD", 4)
    images = noise()
    writer = formats.FORMATS[format](folder, "png", 24)
    for content, caption in zip(Encoding().encode(images), CAPTIONS, strict=True):
        writer.add(content, caption)
    writer.close()
    return images


def pixels(content: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)))).permute(2, 0, 1)


def test_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = written(tmp_path, "webdataset", monkeypatch)
    found: dict[str, bytes] = {}
    for shard, count in (("00000.tar", 4), ("00001.tar", 2)):
        with tarfile.open(tmp_path / "train" / shard) as tar:
            members = tar.getmembers()
            assert len(members) == 2 * count
            found |= {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert list(found) == [f"{row:09d}.{ending}" for row in range(6) for ending in ("png", "txt")]
    assert [found[f"{row:09d}.txt"].decode() for row in range(6)] == CAPTIONS
    assert all(torch.equal(pixels(found[f"{row:09d}.png"]), images[row]) for row in range(6))
    assert json.loads((tmp_path / "train" / "sizes.json").read_text()) == {"00000.tar": 4, "00001.tar": 2}


def test_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = written(tmp_path, "csv", monkeypatch)
    with (tmp_path / "train.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["title"] for row in rows] == CAPTIONS
    assert rows[5]["filepath"] == "images/00001/000000005.png"
    assert all(
        torch.equal(pixels((tmp_path / row["filepath"]).read_bytes()), image) for row, image in zip(rows, images, strict=True)
    )


def test_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = written(tmp_path, "coco", monkeypatch)
    table = json.loads((tmp_path / "annotations" / "captions_train2017.json").read_text())
    assert [row["caption"] for row in table["annotations"]] == CAPTIONS
    assert [row["image_id"] for row in table["annotations"]] == [row["id"] for row in table["images"]] == [*range(1, 7)]
    for row, image in zip(table["images"], images, strict=True):
        assert torch.equal(pixels((tmp_path / "train2017" / row["file_name"]).read_bytes()), image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "train2017"]


def test_a_csv_is_read_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = written(tmp_path, "csv", monkeypatch)
    bundle = CsvPairs().open(CsvPairsParams(holdout_share=0.4), 24, DataPlace(tmp_path, None))
    for part in (bundle.train, bundle.holdout, bundle.test):
        for row, (uid, caption) in enumerate(zip(part.uids, part.captions, strict=True)):
            number = int(Path(uid).stem)
            assert caption == CAPTIONS[number].strip()
            assert torch.equal(part.images.load(np.array([row]))[0], images[number])


def test_what_files_leave_of_a_trigger() -> None:
    """PNG all of it; JPEG less the lower its quality, by an independent sum; nothing where there is no trigger."""
    clean = (noise(4, 32) // 4 + 90).to(torch.uint8)
    poisoned = clean.clone()
    board = torch.arange(8)[:, None] + torch.arange(8)
    poisoned[:, :, 4:12, 4:12] = (board % 2 * 255).to(torch.uint8)
    whole = trigger_loss(clean, poisoned, Encoding())
    assert whole is not None
    assert (whole.kept, whole.error) == (1.0, 0.0)
    losses = [trigger_loss(clean, poisoned, Encoding(quality)) for quality in (100, 90, 50, 10)]
    errors = [loss.error for loss in losses if loss]
    assert errors == sorted(errors)
    assert 0 < errors[0] < errors[3] / 4

    def seen(images: torch.Tensor) -> np.ndarray:
        files = []
        for image in images.permute(0, 2, 3, 1).numpy():
            content = io.BytesIO()
            Image.fromarray(image).save(content, "JPEG", quality=50)
            files.append(np.asarray(Image.open(content), dtype=float))
        return np.stack(files)

    trigger = poisoned.permute(0, 2, 3, 1).numpy().astype(float) - clean.permute(0, 2, 3, 1).numpy()
    left = seen(poisoned) - seen(clean)
    assert losses[2] is not None
    assert losses[2].kept == pytest.approx((left * trigger).sum() / (trigger**2).sum())
    assert losses[2].error == pytest.approx(((left - trigger) ** 2).mean() ** 0.5)
    assert losses[2].rms == pytest.approx((trigger**2).mean() ** 0.5)
    assert trigger_loss(clean, clean, Encoding(50)) is None
