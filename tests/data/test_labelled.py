from pathlib import Path

from PIL import Image

from bench.data import labelled


def test_files_of_macos_are_not_images(tmp_path: Path) -> None:
    for name in ("leopard", "tiger"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "1.jpg")
        (tmp_path / name / "._1.jpg").write_bytes(b"\0\5\x16\7")
    assert labelled._classes(tmp_path) == {name: [f"{tmp_path}/{name}/1.jpg"] for name in ("leopard", "tiger")}
