"""Writes docs/scenes.croissant.json from the data set itself: `python docs/croissant.py`.

Croissant 1.0 metadata, https://docs.mlcommons.org/croissant/docs/croissant-spec.html. `scenes` is computed, not downloaded: its
resources are the files that compute it, and those that `EXPORT` writes, beside which the metadata can be put and loaded.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bench.data.scenes
from bench import recipe
from bench.api import DataPlace
from bench.data.scenes import ScenesDataset
from bench.data.scenes.dataset import ScenesParams

DOCS = Path(__file__).resolve().parent
FILE = DOCS / "scenes.croissant.json"
GENERATOR = Path(bench.data.scenes.__file__).resolve().parent
EXPORT = "bench poison --data scenes --attack none --format csv --to scenes"
PURPOSES = {
    "train": "pairs that models are trained on, and that attacks poison",
    "holdout": "images of the adversary; no model is trained on them",
    "test": "labelled images and held-out captions for evaluation",
    "probe_train": "labelled images that linear probes are trained on",
}
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        term: f"cr:{term}"
        for term in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
            "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
            "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip


def croissant() -> dict[str, Any]:
    """The metadata: sizes by the recipe `scenes`, everything else from `ScenesDataset` and the files that it is made of."""
    sizes = {name: ScenesParams(**recipe.for_data("scenes").tree["data"]).model_dump()[name] for name in PURPOSES}
    bundle = ScenesDataset().open(ScenesParams(train=64, holdout=16, probe_train=16), 32, DataPlace(root=None, cache=None))
    about = " ".join((inspect.getdoc(ScenesDataset) or "").replace("`", "").split())
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "scenes",
        "description": f"{about} {EXPORT} writes the training pairs.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://spdx.org/licenses/MIT.html",
        "url": "datasheet.md",
        "creator": {"@type": "sc:Organization", "name": "The bench authors"},
        "datePublished": "2026-11-27",
        "version": f"{ScenesDataset.version}.0.0",
        "inLanguage": "en",
        "keywords": ["image-caption pairs", "synthetic", "data poisoning", "CLIP"],
        "isLiveDataset": False,
        "distribution": [
            *(resource(file) for file in sorted(GENERATOR.glob("*.py"))),
            exported("train.csv", "train.csv", "text/csv"),
            exported("images", "images/*/*.png", "image/png"),
        ],
        "recordSet": [
            enumeration("splits", ({"name": name, "instances": sizes[name], "purpose": PURPOSES[name]} for name in PURPOSES)),
            *(enumeration(f"{task.name}s", ({"name": word} for word in task.vocabulary.names)) for task in bundle.tasks),
            {"@type": "cr:RecordSet", "@id": "pairs", "name": "pairs", "key": {"@id": "pairs/file"}, "field": pair_fields()},
        ],
    }


def pair_fields() -> list[dict[str, Any]]:
    """An exported training pair: its image, by whose file name the two are joined, and its caption."""
    path = {"fileSet": {"@id": "train.csv"}, "extract": {"column": "filepath"}, "transform": {"regex": "^(?:.*/)?([^/]+)$"}}
    name = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}}
    pixels = {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}}
    caption = {"fileSet": {"@id": "train.csv"}, "extract": {"column": "title"}}
    return [
        field("pairs/file", "sc:Text", "name of the image's file", source=path, references=name),
        field("pairs/image", "sc:ImageObject", "rendered RGB image of the model's side", source=pixels),
        field("pairs/caption", "sc:Text", "caption, which mentions some attributes of the image", source=caption),
    ]


def field(name: str, kind: str, description: str, **more: dict[str, Any]) -> dict[str, Any]:
    """A `cr:Field`."""
    return {"@type": "cr:Field", "@id": name, "name": name, "description": description, "dataType": kind, **more}


def enumeration(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A record set whose rows are in the metadata, with the key `name`."""
    data = [{f"{name}/{column}": value for column, value in row.items()} for row in rows]
    fields = [field(column, "sc:Integer" if isinstance(value, int) else "sc:Text", column) for column, value in data[0].items()]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": "cr:Split" if name == "splits" else "sc:Enumeration",
        "key": {"@id": f"{name}/name"},
        "field": fields,
        "data": data,
    }


def resource(file: Path) -> dict[str, Any]:
    """A `cr:FileObject`: one file of the generator, with its digest."""
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": f"../{file.relative_to(DOCS.parent).as_posix()}",
        "encodingFormat": "text/x-python",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def exported(name: str, includes: str, kind: str) -> dict[str, Any]:
    """A `cr:FileSet`: files that `EXPORT` writes."""
    described = f"as written by {EXPORT}"
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": described,
        "encodingFormat": kind,
        "includes": includes,
    }


def text() -> str:
    return json.dumps(croissant(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
