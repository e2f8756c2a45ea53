import shutil
import time
from pathlib import Path

import pytest

from tests.data.conceptual_maker import make_download
from tests.data.genome_maker import make_genome
from tests.data.test_imagefolder import folders
from tests.data.torchvision_maker import cifar

from .conftest import Bench


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def test_nothing_wrong(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = bench("data", "verify", "cc3m", "--data-root", make_download(tmp_path / "cc", tars=True), "--decode")
    assert (done.code, done.err) == (0, "")
    for line in ("28 pairs: 18 train, 8 holdout, 2 test", "not downloaded train: 2", "unreadable: 0", "duplicate: 0"):
        assert line in done.out.splitlines()
    done = bench("data", "verify", "cifar10", "--data-root", cifar(tmp_path / "cifar", monkeypatch))
    assert done.code == 0
    assert "task classes: 3 classes, 20 train, 6 test" in done.out
    assert "unreadable: not checked" in done.out


def test_everything_wrong_is_counted_and_named(bench: Bench, tmp_path: Path) -> None:
    root = make_genome(tmp_path / "vg")
    file = root / "region_descriptions.json"
    file.write_text(file.read_text().replace('"id": 5}', '"id": 4}').replace('"phrase": "sky"', '"phrase": ""'))
    (root / "VG_100K" / "2.jpg").unlink()
    (root / "VG_100K" / "8.jpg").write_bytes(b"no image")
    done = bench("data", "verify", "visual_genome", "--data-root", root)
    assert (done.code, done.err) == (1, "")
    assert "missing: 1" in done.out
    assert "2.jpg" in done.out
    assert "duplicate: 1" in done.out
    assert "image id 4 occurs twice" in done.out
    assert "8.jpg" not in done.out
    done = bench("data", "verify", "visual_genome", "--data-root", root, "--decode")
    assert done.code == 1
    assert "unreadable: 1" in done.out
    assert str(root / "VG_100K" / "8.jpg") in done.out


def test_a_folder_of_classes(bench: Bench, tmp_path: Path) -> None:
    root = folders(tmp_path / "photos")
    (root / "train" / "cat" / "._0.png").write_bytes(b"")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "copy.png")
    (root / "train" / "hot_dog" / "0.png").write_bytes(b"no image")
    done = bench("data", "verify", "imagefolder", "--data-root", root, "--decode")
    assert (done.code, done.err) == (1, "")
    for line in (
        "48 pairs: 24 train, 12 holdout, 12 test",
        "task classes: 3 classes, 24 train, 12 test",
        "hidden files: 1, the first train/cat/._0.png",
        "duplicate: 1",
        "unreadable: 1",
    ):
        assert line in done.out.splitlines()
    assert "copy.png is identical to" in done.out
    assert "hot_dog/0.png is not an image" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("visual_gnome",), "did you mean 'visual_genome'?"),
        (("cc3m",), "--data-root"),
        (("cc3m", "--data-root", "/no/such/folder"), "/no/such/folder"),
        (("scenes", "--set", "train.epochs=3"), "only options of the data set"),
        (("scenes", "--set", "data.trian=300"), "unknown option 'trian'"),
    ],
)
def test_bad_input(bench: Bench, arguments: tuple[str, ...], words: str) -> None:
    done = bench("data", "verify", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_ten_thousand_pairs_take_seconds_of_work(bench: Bench, tmp_path: Path) -> None:
    root = make_genome(tmp_path / "vg", 1)
    one = ((root / "VG_100K_2" / "1.jpg").read_bytes(), (root / "region_descriptions.json").read_text()[1:-1])
    for image in range(2, 10_001):
        (root / "VG_100K" / f"{image}.jpg").write_bytes(one[0] + str(image).encode())
    rows = [one[1].replace('"id": 1}', f'"id": {image}}}') for image in range(1, 10_001)]
    (root / "region_descriptions.json").write_text(f"[{','.join(rows)}]")
    bench("data", "verify", "visual_genome", "--data-root", root)
    started = time.process_time()
    assert bench("data", "verify", "visual_genome", "--data-root", root).code == 0
    assert time.process_time() - started < 6  # a second on an idle core; quadratic work takes minutes
    shutil.rmtree(root)
