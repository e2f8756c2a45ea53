"""`bench verify`: whether an archive of results holds what it says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from bench.errors import UserError
from bench.interface.plugins import load_plugins
from bench.submission.archive import unpack
from bench.submission.compare import MEASURED_AGAIN, TRAINED_AGAIN
from bench.submission.flaw import Flaw
from bench.submission.layout import MANIFEST, PLUGINS
from bench.submission.manifest import Manifest, check_manifest, sha256
from bench.submission.predictions import check_predictions
from bench.submission.recompute import Rebuilt, recompute
from bench.submission.records import Records, check_records
from bench.submission.remeasure import remeasure, weights_given
from bench.submission.retrain import retrain
from bench.submission.verified import Level, Verified, write_verified

_MOST_THREADS = 256


@dataclass(frozen=True)
class Options:
    """What a verification may do beyond reading.

    data: folders of data sets, by name. run_plugins: import the plugin files of the archive. retrain: train a run anew.
    run: its key; None is the cheapest.
    """

    data: Mapping[str, Path]
    run_plugins: bool = False
    retrain: bool = False
    run: str | None = None


def verify(archive: Path, options: Options, to: Path | None, say: Callable[[str], None]) -> Verified:
    """Verify an archive; nothing in it is run unless `options` say so.

    Parameters
    ----------
    archive : Path
    options : Options
    to : Path, optional
        A new folder, into which the archive is unpacked if it is accepted: a results folder with verified.json.
    say : callable
        Takes a line for each thing that was checked, or could not be.

    Raises
    ------
    UserError
        If the archive is refused; names archive, file and reason.
    """
    if to is not None and to.exists():
        raise UserError(f"--to {to}: exists; name a new folder")
    with tempfile.TemporaryDirectory(prefix=".bench-verify-", dir=_beside(to)) as temporary:
        root = Path(temporary) / "archive"
        root.mkdir()
        try:
            unpack(archive, root)
            levels = _verify(root, options, say)
        except Flaw as flaw:
            raise UserError(f"{archive}: {flaw}") from None
        verified = Verified(archive=archive.name, sha256=sha256(archive), levels=levels)
        if to is not None:
            write_verified(root, verified)
            root.rename(to)
    return verified


def _beside(to: Path | None) -> Path | None:
    """Where to unpack: beside the folder that it becomes."""
    if to is not None and not to.parent.is_dir():
        raise UserError(f"--to {to}: folder {to.parent} does not exist; create it or name another")
    return to.parent if to else None


def _verify(root: Path, options: Options, say: Callable[[str], None]) -> dict[str, Level]:
    manifest = check_manifest(root)
    say(f"{len(manifest.files)} files, each with the sha256 in {MANIFEST}")
    files = sorted((root / PLUGINS).glob("*.py"))
    records = check_records(root, {sha256(file): f"{PLUGINS}/{file.name}" for file in files})
    evaluations = sum(map(len, records.evaluations.values()))
    found = (records.requests, "request"), (len(records.runs), "run"), (evaluations, "evaluation")
    say(f"{', '.join(_count(*each) for each in found)}: none missing, keys and digests fit")
    say(f"{check_predictions(records)} of the evaluations come with predictions, whose means they are")
    load_plugins([str(file) for file in files] if options.run_plugins else [])
    rebuilt, left_out = recompute(records, options.data)
    say(f"{_count(len(rebuilt), 'run')} made by the code here: the same keys, data set and poison")
    for reason in sorted(set(left_out.values())):
        say(f"not checked: {_count(list(left_out.values()).count(reason), 'run')}, {reason}")
    if crafted := sum(found.cell.surrogate is not None for found in rebuilt.values()):
        runs = _count(crafted, "run")
        say(f"not checked: of the poison of {runs} what was optimised against a model; its images and targets are")
    levels: dict[str, Level] = {key: "consistent" if key in rebuilt else "claimed" for key in records.runs}
    with _threads(records):
        levels |= _measured(records, rebuilt, manifest, say)
        if options.retrain:
            levels |= _trained(records, rebuilt, manifest, options.run, say)
    return levels


def _measured(
    records: Records, rebuilt: Mapping[str, Rebuilt], manifest: Manifest, say: Callable[[str], None]
) -> dict[str, Level]:
    found = remeasure(records, rebuilt, manifest.environment)
    for exact, how in (
        (True, "to the last bit, on the same kind of CPU"),
        (False, f"within {MEASURED_AGAIN:g}, on another kind of CPU"),
    ):
        if count := sum(each is exact for each in found.values()):
            say(f"{_count(count, 'run')} measured again with their weights: the same numbers {how}")
    if left := len(records.runs) - len(found):
        given = weights_given(records)
        why = (
            "without weights in the archive"
            if not given
            else "without weights, their own or of models that they are measured with"
        )
        say(f"not checked: the numbers of {_count(left, 'run')} {why}")
    return dict.fromkeys(found, "measured again")


def _trained(
    records: Records, rebuilt: Mapping[str, Rebuilt], manifest: Manifest, run: str | None, say: Callable[[str], None]
) -> dict[str, Level]:
    done = retrain(records, rebuilt, manifest.environment, run)
    how = "the same weights and numbers to the last bit, on the same kind of CPU"
    say(f"{done.title} trained again: {how if done.exact else f'numbers within {TRAINED_AGAIN:g}, on another kind of CPU'}")
    return {done.key: "trained again"}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def _threads(records: Records) -> Iterator[None]:
    """Compute on as many threads as the records say, since sums depend on it in their last bits."""
    count = next((each.provenance.threads for each in records.runs.values() if 0 < each.provenance.threads <= _MOST_THREADS), 1)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
