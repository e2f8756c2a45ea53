"""`bench submit`: a results folder as one archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.matrix.store import Store
from bench.submission.archive import write_archive
from bench.submission.flaw import Flaw
from bench.submission.layout import MANIFEST, PLUGINS, WEIGHTS, limit_of
from bench.submission.manifest import manifest_text, sha256
from bench.submission.records import check_records


@dataclass(frozen=True)
class Packed:
    """What went into an archive: numbers of runs, of runs with weights, of files, and of bytes of the archive."""

    runs: int
    weights: int
    files: int
    size: int


def submit(folder: Path, to: Path, weights: bool = False, plugins: Sequence[Path] = ()) -> Packed:
    """Pack the records of a results folder.

    Parameters
    ----------
    folder : Path
        A results folder, every requested cell of which is on record.
    to : Path
        The archive: a .zip or a .tar. The same folder on the same machine gives the same bytes.
    weights : bool
        Pack the trained weights too.
    plugins : sequence of Path
        The files of the methods that are not built in.

    Raises
    ------
    UserError
        If a record is damaged or missing, or the file of a method is not given; names it.
    """
    Store.open(folder)
    sources = _sources(plugins)
    try:
        records = check_records(folder, sources, weights)
    except Flaw as flaw:
        raise UserError(f"{folder}/{flaw}{_hint(flaw)}") from None
    files: dict[str, Path | bytes] = dict(_files(folder, weights))
    files |= {sources[sha256(file)]: file for file in plugins}
    unfit = next((path for path in files if limit_of(path) is None), None)
    if unfit:
        raise UserError(
            f"{unfit}: an archive cannot hold a file of that name; rename it, with letters, digits, and _ . - alone"
        )
    files[MANIFEST] = manifest_text(files)
    write_archive(to, files)
    return Packed(len(records.runs), sum(map(records.has_weights, records.runs)) * weights, len(files), to.stat().st_size)


def _files(folder: Path, weights: bool) -> list[tuple[str, Path]]:
    """What a results folder has for an archive, with its path there; checkpoints and reports stay behind."""
    found = [folder / "store.json", *(folder / "requests").glob("*.json"), *(folder / "runs").glob("*/**/*")]
    paths = [(path.relative_to(folder).as_posix(), path) for path in found if path.is_file()]
    return [(name, path) for name, path in paths if limit_of(name) is not None and (weights or path.name != WEIGHTS)]


def _sources(plugins: Sequence[Path]) -> dict[str, str]:
    """Paths in the archive of plugin files, by their sha256."""
    found: dict[str, str] = {}
    for file in plugins:
        if not file.is_file():
            raise UserError(f"--plugin {file}: no such file")
        path = f"{PLUGINS}/{file.name}"
        if path in found.values():
            raise UserError(f"--plugin {file}: another file of this name is given; rename one of them")
        found[sha256(file)] = path
    return found


def _hint(flaw: Flaw) -> str:
    text = str(flaw)
    if "missing: a request asks" in text:
        return "; `bench run` with the same options adds it"
    if PLUGINS in text:
        return "; give its file with --plugin (an edited built-in method has none: make it a plugin)"
    return ""
