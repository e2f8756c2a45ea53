from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.leaderboard.faulty import load_faulty


def test_the_list_of_this_package_can_be_read() -> None:
    assert isinstance(load_faulty(), tuple)


def test_the_example_in_it_is_valid(tmp_path: Path) -> None:
    from bench.leaderboard.faulty import FILE

    lines = FILE.read_text().splitlines()
    example = [line.removeprefix("# ") for line in lines[lines.index("# [[faulty]]") :] if line.startswith("# ")]
    (tmp_path / "f.toml").write_text("\n".join(example))
    (found,) = load_faulty(tmp_path / "f.toml")
    assert (found.kind, found.name, found.version) == ("defense", "roclip", "1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[faulty]]\nkind='defense'\nname='x'\nreason='y'", "give version or source"),
        ("[[faulty]]\nkind='defense'\nversion='1'\nreason='y'", "give the name of a method"),
        ("[[faulty]]\nkind='engine'\nname='x'\nversion='1'\nreason='y'", "none for the engine"),
        ("[[faulty]]\nkind='model'\nname='x'\nversion='1'\nreason='y'", "kind: "),
        ("[[faulty]]\nkind='attack'\nname='x'\nversion=1\nreason='y'", "version: "),
        ("[[faulty]]\nkind='attack'\nname='x'\nversion='1'\nreason=''", "reason: "),
        ("[[faulty]]\nkind='attack'\nname='x'\nsource='ab'\nreason='y'", "source: "),
        ("[[defect]]\nkind='attack'", "unknown table 'defect'"),
        ("faulty = [", "f.toml: "),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(UserError) as raised:
        load_faulty(tmp_path / "f.toml")
    assert str(raised.value).startswith(str(tmp_path / "f.toml"))
    assert reason in str(raised.value)
