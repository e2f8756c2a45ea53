"""An archive in memory, changed the way somebody would who knows how digests and keys are made."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tree = dict[str, Any]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()[:16]


def bare(value: Any) -> Any:
    """Without nulls."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if item is not None}
    return value


class Forger:
    def __init__(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as opened:
            self.files = {info.filename: opened.read(info) for info in opened.infolist()}

    def save(self, to: Path, refresh: bool = True) -> Path:
        """Write the archive; `refresh` gives it a manifest that fits."""
        if refresh:
            self.edit("submission.json", lambda tree: tree.update(files=self._digests()))
        with zipfile.ZipFile(to, "w") as archive:
            for path, content in self.files.items():
                archive.writestr(path, content)
        return to

    def _digests(self) -> dict[str, str]:
        return {path: hashlib.sha256(each).hexdigest() for path, each in self.files.items() if path != "submission.json"}

    def edit(self, path: str, change: Callable[[Tree], Any]) -> None:
        tree = json.loads(self.files[path])
        change(tree)
        self.files[path] = json.dumps(tree).encode()

    def rewrite(self, path: str, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the arrays of a file of predictions."""
        arrays = dict(np.load(io.BytesIO(self.files[path]), allow_pickle=False))
        change(arrays)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        self.files[path] = stream.getvalue()

    def tree(self, path: str) -> Tree:
        return json.loads(self.files[path])

    def run(self, defense: str, attack: str | None, seed: int) -> str:
        """The folder of a run."""
        for path in self.files:
            if path.endswith("/run.json"):
                spec = self.tree(path)["spec"]
                own = (spec["defense"]["name"], (spec["attack"] or {}).get("name"), spec["seed"])
                if own == (defense, attack, seed):
                    return path.removesuffix("/run.json")
        raise LookupError((defense, attack, seed))

    def evaluation(self, folder: str, name: str) -> str:
        return next(path for path in self.files if path.startswith(f"{folder}/evals/{name}-"))

    def forget_predictions(self, path: str) -> None:
        """Leave out those of an evaluation."""
        del self.files[f"{path.removesuffix('.json')}.npz"]
        self.edit(path, lambda tree: tree.pop("predictions"))

    def drop(self, start: str) -> None:
        self.files = {path: content for path, content in self.files.items() if not path.startswith(start)}

    def rekey(self, change: Callable[[Tree], Any]) -> None:
        """Change every specification, and give runs, evaluations and requests the keys that follow."""
        old, self.files = self.files, {}
        specs = {path.split("/")[1]: json.loads(each)["spec"] for path, each in old.items() if path.endswith("/run.json")}
        for spec in specs.values():
            change(spec)
        keys = {key: digest(bare(spec)) for key, spec in specs.items()}
        evals: dict[str, str] = {}
        for path, content in sorted(old.items()):
            kind, _, rest = path.partition("/")
            if kind != "runs":
                self.files[path] = content
                continue
            key, _, name = rest.partition("/")
            if name.endswith(".json") and name != "poison.json":
                tree = json.loads(content) | {"run_key": keys[key]}
                if name == "run.json":
                    tree["spec"] = specs[key]
                else:
                    name = self._rekeyed(tree, keys, evals)
                content = json.dumps(tree).encode()
            elif name.endswith(".npz"):
                start, _, own = name.removesuffix(".npz").rpartition("-")
                name = f"{start}-{evals[own]}.npz"
            self.files[f"runs/{keys[key]}/{name}"] = content
        self._rekey_requests(specs, keys, evals)

    def _rekeyed(self, tree: Tree, keys: dict[str, str], evals: dict[str, str]) -> str:
        tree["clean_run_key"] = keys.get(tree["clean_run_key"])
        parts = {"run": tree["run_key"], "evaluator": bare(tree["evaluator"]), "clean": tree["clean_run_key"]}
        evals[tree["eval_key"]] = tree["eval_key"] = digest(parts)
        return f"evals/{tree['evaluator']['name']}-{tree['eval_key']}.json"

    def _rekey_requests(self, specs: dict[str, Tree], keys: dict[str, str], evals: dict[str, str]) -> None:
        def change(tree: Tree) -> None:
            for cell in tree["cells"]:
                cell["spec"] = specs[cell["run_key"]]
                cell["run_key"] = keys[cell["run_key"]]
                for each in cell["evaluators"]:
                    each["eval_key"] = evals.get(each["eval_key"], each["eval_key"])

        self.edit_requests(change)

    def edit_requests(self, change: Callable[[Tree], Any]) -> None:
        """Change every request, and name it by its digest."""
        for path in [path for path in self.files if path.startswith("requests/")]:
            tree = json.loads(self.files.pop(path))
            schema = tree.pop("schema")
            change(tree)
            self.files[f"requests/{digest(tree)}.json"] = json.dumps({"schema": schema, **tree}).encode()
