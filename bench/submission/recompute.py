"""The cells of an archive, made anew by the code here: keys, fingerprint of the data, poison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.canonical import canonical
from bench.config import PluginSpec
from bench.errors import UserError
from bench.matrix.expand import Cell, Expander, Matrix
from bench.matrix.schema import EvalRecord, PluginRecord
from bench.matrix.workspace import Workspace
from bench.registry import KINDS, evaluators
from bench.reports.command import EMBEDDED
from bench.reports.records import EXTERNAL
from bench.submission.flaw import Flaw
from bench.submission.records import Records, eval_path, plugins_of, poison_manifest, run_path
from bench.submission.specs import check_engagement, evaluator_of, settings_of, spec_of

LARGEST = 2**20
"""The most pairs or images of an embedded data set that are rendered for a check."""


@dataclass(frozen=True)
class Rebuilt:
    """A recorded cell as the code here makes it, with the matrix of what it depends on."""

    cell: Cell
    expander: Expander = field(repr=False)

    @property
    def workspace(self) -> Workspace:
        return self.expander.workspace

    @property
    def matrix(self) -> Matrix:
        return self.expander.matrix()


def recompute(records: Records, roots: Mapping[str, Path]) -> tuple[dict[str, Rebuilt], dict[str, str]]:
    """Make every cell anew.

    Parameters
    ----------
    records : Records
        Checked records.
    roots : mapping of str to Path
        Folders of the data sets that are here, by name.

    Returns
    -------
    tuple of dict
        The cells by run key, and for the others the reason why they cannot be made here.

    Raises
    ------
    Flaw
        If a record has another key, data set, poison or method than the code here.
    """
    left_out = {key: reason for key in records.asked if (reason := _lacks(records, key, roots))}
    measures = {
        key: {_name(each): evaluator_of(eval_path(key, each), each) for each in records.evaluations.get(key, ())}
        for key in records.asked.keys() - left_out.keys()
    }
    every = {name: spec for key in sorted(measures) for name, spec in measures[key].items()}
    rebuilt: dict[str, Rebuilt] = {}
    opened: dict[str, Expander] = {}
    for key in sorted(measures):
        try:  # with one evaluator of each name, so that most runs share a workspace
            found = _rebuild(records, key, every | measures[key], roots, opened)
            _check_support(records, key, found.cell)
            if key in records.runs:
                _check_keys(records, key, found.cell)
                _check_poison(records, key, found)
                rebuilt[key] = found
        except Flaw:
            raise
        except UserError as error:
            raise Flaw(run_path(key), f"cannot be made here: {error}") from None
    return rebuilt, {key: reason for key, reason in left_out.items() if key in records.runs}


def _lacks(records: Records, key: str, roots: Mapping[str, Path]) -> str | None:
    spec = records.spec(key)
    if spec.defense and spec.defense.name == EXTERNAL:
        return "trained elsewhere"
    foreign = next((each for each in plugins_of(records, key) if each.source is not None and not _is_loaded(each)), None)
    if foreign:
        return f"'{foreign.name}' is not built in, and --run-plugins was not given"
    if spec.data and spec.data.name not in (*EMBEDDED, *roots):
        return f"{spec.data.name} is not here; give its folder with --data {spec.data.name}:DIR"
    if spec.data and spec.data.name in EMBEDDED:
        sizes = {
            name: size for name, size in spec.data.params.dump().items() if name != "seed" and isinstance(size, int | float)
        }
        if any(size > LARGEST for size in sizes.values()):
            return f"more than {LARGEST:,} images are not rendered for a check"
    return None


def _is_loaded(plugin: PluginRecord) -> bool:
    return any(registry[plugin.name].source == plugin.source for registry in KINDS.values() if plugin.name in registry.names())


def _rebuild(
    records: Records, key: str, measures: Mapping[str, PluginSpec], roots: Mapping[str, Path], opened: dict[str, Expander]
) -> Rebuilt:
    claimed, file = records.spec(key), run_path(key)
    settings = settings_of(file, claimed, measures)
    name, options, model, _ = settings.args
    place = canonical([name, options, model])
    if place not in opened:
        opened[place] = Expander(settings, name, roots.get(name), [evaluators[each] for each in measures], None, None)
    expander = opened[place]
    spec = spec_of(file, claimed, expander.workspace.data)
    if key in records.runs:
        check_engagement(file, records.runs[key], spec)
    expander.model = spec.model
    return Rebuilt(expander.add(spec.attack, spec.defense, spec.seed, spec.train), expander)


def _check_support(records: Records, key: str, cell: Cell) -> None:
    """Raise Flaw where a request says that a cell or an evaluation cannot be, and it can, or is on record and cannot be."""
    here = {each.evaluator.name: each.unsupported for each in cell.evaluations}
    for asked in records.asked[key]:
        if bool(asked.unsupported) != bool(cell.unsupported):
            raise Flaw(
                run_path(key),
                f"a request calls it {_support(asked.unsupported)}, here it is {_support(cell.unsupported)}",
            )
        for each in asked.evaluators if not cell.unsupported else ():
            own = here.get(each.name, each.unsupported)
            if bool(each.unsupported) != bool(own):
                raise Flaw(
                    f"runs/{key}/evals/{each.name}-{each.eval_key}.json",
                    f"a request calls it {_support(each.unsupported)}, here it is {_support(own)}",
                )


def _support(reason: str | None) -> str:
    return f"unsupported ({reason:.80})" if reason else "supported"


def _check_keys(records: Records, key: str, cell: Cell) -> None:
    """Raise Flaw unless the evaluations have the keys that they have here; those on downstream sets cannot be compared."""
    if cell.key != key:
        raise Flaw(run_path(key), f"its key here is {cell.key}")
    here = {each.evaluator.name: each for each in cell.evaluations}
    for record in records.evaluations[key]:
        own = here[_name(record)]
        if own.unsupported:
            raise Flaw(eval_path(key, record), f"cannot be: {own.unsupported}")
        if not record.downstream and own.key != record.eval_key:
            raise Flaw(eval_path(key, record), f"its key here is {own.key}")


def _name(record: EvalRecord) -> str:
    return record.evaluator.name if record.evaluator else ""


def _check_poison(records: Records, key: str, found: Rebuilt) -> None:
    """Raise Flaw unless the attack makes the recorded poison here; of a crafted one, the choices before crafting."""
    cell, workspace, claimed = found.cell, found.workspace, poison_manifest(records.root, key)
    if cell.spec.attack is None or claimed is None:
        return
    _, plan, _ = workspace.poison(cell.spec)
    same = (
        _choices(claimed) == _choices(plan.manifest())
        if cell.surrogate
        else claimed == {"hash": plan.hash(), **plan.manifest()}
    )
    if not same:
        file = f"runs/{key}/poison.json"
        raise Flaw(file, f"{cell.spec.attack.name} with seed {cell.spec.seed} makes other poison of {workspace.data.name} here")


def _choices(manifest: Mapping[str, object]) -> object:
    """Of a manifest what crafting leaves alone: attack, targets, and image, target and edit of each poison."""
    poisons = manifest.get("poisons")
    kept = [{**each, "caption": ""} for each in poisons if isinstance(each, dict)] if isinstance(poisons, list) else []
    return canonical([manifest.get("attack"), manifest.get("targets"), kept])
