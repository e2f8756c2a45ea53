"""Archives as hostile input."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.submission import archive as archives
from bench.submission import layout
from bench.submission.archive import unpack, write_archive
from bench.submission.layout import limit_of

KEY = "0123456789abcdef"
SOUND = {"store.json": b"{}", f"runs/{KEY}/run.json": b"{}" * 9, f"runs/{KEY}/evals/asr-{KEY}.json": b""}
OUTSIDE = (
    "../store.json", "/etc/passwd", "runs/../../store.json", f"runs/{KEY}/../../../x.json", "C:\\store.json", "runs\\x.json",
    "./store.json", "store.json/", f"runs/{KEY}/", f"runs/{KEY}/.hidden.json", "", "store.json\n", "verified.json",
    f"runs/{KEY}/model.pt", f"runs/{KEY}/model.pkl", f"runs/{KEY}/evals/deep/x.json", "plugins/x/y.py", "plugins/x.so",
    f"runs/{'k' * 65}/run.json", "requests/ü.json",
)  # fmt: skip


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _zip(to: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(to, "w") as made:
        for name, content in members:
            made.writestr(name, content)
    return to


def _tar(to: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(to, "w", format=form) as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return to


@pytest.mark.parametrize("end", ["zip", "tar"])
def test_what_is_packed_is_unpacked(end: str, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(3 * 2**20))
    files: dict[str, Path | bytes] = {**SOUND, f"runs/{KEY}/model.safetensors": source}
    for name in ("one", "two"):
        write_archive(tmp_path / f"{name}.{end}", files)
    assert (tmp_path / f"one.{end}").read_bytes() == (tmp_path / f"two.{end}").read_bytes()
    (tmp_path / "to").mkdir()
    unpack(tmp_path / f"one.{end}", tmp_path / "to")
    assert _files(tmp_path / "to") == {**SOUND, f"runs/{KEY}/model.safetensors": source.read_bytes()}
    reader = zipfile.ZipFile if end == "zip" else tarfile.open
    with reader(tmp_path / f"one.{end}") as opened:  # type: ignore[operator]
        assert sorted(opened.namelist() if end == "zip" else opened.getnames()) == sorted(files)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_no_submission_has(name: str, tmp_path: Path) -> None:
    assert limit_of(name) is None
    (tmp_path / "to").mkdir()
    made = [_zip(tmp_path / "x.zip", ("store.json", b"{}"), (name, b"evil"))] if name else []
    made += [_tar(tmp_path / "x.tar", (tarfile.TarInfo(name), b"evil"))] if name and not name.endswith("/") else []
    for archive in made:
        with pytest.raises(UserError, match=r"not a file of a submission|not a regular file"):
            unpack(archive, tmp_path / "to")
        (tmp_path / "to" / "store.json").unlink(missing_ok=True)
    assert _files(tmp_path / "to") == {}
    assert sorted(os.listdir(tmp_path)) == sorted(["to", *(path.name for path in made)])


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFIFO])
def test_only_regular_files_in_a_zip(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("store.json")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(UserError, match=r"'store\.json': not a regular file"):
        unpack(_zip(tmp_path / "x.zip", (info, b"/etc/passwd")), tmp_path)
    assert not (tmp_path / "store.json").is_symlink()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_only_regular_files_in_a_tar(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("store.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(UserError, match=r"'store\.json': not a regular file"):
        unpack(_tar(tmp_path / "x.tar", (info, b"")), tmp_path)
    assert not (tmp_path / "store.json").exists()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_not_read(form: int, tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"runs/{KEY}/{'n' * 90}.json")
    with pytest.raises(UserError, match="not a regular file"):
        unpack(_tar(tmp_path / "x.tar", (info, b"{}"), form=form), tmp_path)


def test_a_size_that_leads_backwards(tmp_path: Path) -> None:
    info = tarfile.TarInfo("store.json")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512, in base 256
    header[148:156] = b"        "
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(bytes(header) * 3)
    with pytest.raises(UserError, match="not a sound archive"):
        unpack(tmp_path / "x.tar", tmp_path)


@pytest.mark.parametrize("names", ["Aa", "aA"])
def test_names_that_differ_in_case_alone(names: str, tmp_path: Path) -> None:
    archive = _zip(tmp_path / "x.zip", *((f"requests/{name}.json", b"{}") for name in names))
    with pytest.raises(UserError, match=rf"requests/{names[1]}\.json: in the archive twice"):
        unpack(archive, tmp_path)


def test_an_encrypted_member(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "x.zip", ("store.json", b"{}"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        unpack(archive, tmp_path)


@pytest.mark.parametrize(
    ("end", "limit", "value", "reason"),
    [
        ("zip", "MOST_BYTES", 100, r"x\.zip: larger than 100 bytes"),
        ("zip", "MOST_BYTES", 7000, r"store\.json: unpacks to more than 2,000 bytes"),  # after 5,000 of another
        ("zip", "MOST_FILES", 1, r"store\.json: one file more than the 1"),
        ("tar", "MOST_FILES", 1, r"store\.json: one file more than the 1"),
        ("zip", "limit_of", lambda path: 4999, "run.json: unpacks to more than 4,999 bytes"),
        ("tar", "limit_of", lambda path: 4999, "run.json: unpacks to more than 4,999 bytes"),
    ],
)
def test_limits_on_what_comes_out(
    end: str, limit: str, value: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / f"x.{end}"
    write_archive(archive, {"store.json": b"\0" * 5000, f"runs/{KEY}/run.json": b"\0" * 5000})
    monkeypatch.setattr(archives, limit, value)
    (tmp_path / "to").mkdir()
    with pytest.raises(UserError, match=reason):
        unpack(archive, tmp_path / "to")
    assert sum(map(len, _files(tmp_path / "to").values())) <= 7000


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandfold compression, and a size that the archive does not tell."""
    monkeypatch.setattr(layout, "_KINDS", (("store\\.json", 2**20),))
    archive = tmp_path / "x.zip"
    write_archive(archive, {"store.json": b"\0" * 2**24})
    content = bytearray(archive.read_bytes())
    assert len(content) < 2**15
    with pytest.raises(UserError, match="unpacks to more than 1,048,576 bytes"):
        unpack(archive, tmp_path)
    assert (tmp_path / "store.json").stat().st_size <= 2**20


@pytest.mark.parametrize("end", ["zip", "tar"])
def test_damaged_archives(end: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole.{end}"
    write_archive(whole, {"store.json": os.urandom(3000)})
    content = whole.read_bytes()
    for number, damaged in enumerate((content[:1500], b"not one" * 100, content[:200] + b"\xff" * 200 + content[400:])):
        file, to = tmp_path / f"{number}.{end}", tmp_path / f"{end}{number}"
        file.write_bytes(damaged)
        to.mkdir()
        with pytest.raises(UserError, match=f"{number}.{end}: not a sound archive"):
            unpack(file, to)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.rar: an archive of results is a \.zip or a \.tar"):
        unpack(tmp_path / "a.rar", tmp_path)
    with pytest.raises(UserError, match=r"a\.zip: no such file"):
        unpack(tmp_path / "a.zip", tmp_path)
    with pytest.raises(UserError, match=r"a\.7z: an archive"):
        write_archive(tmp_path / "a.7z", {})
