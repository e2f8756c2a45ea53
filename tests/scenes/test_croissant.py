"""docs/scenes.croissant.json: made from the data set, and Croissant 1.0 by its specification."""

from __future__ import annotations

import hashlib
import io
import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.data.scenes import grammar
from bench.export.formats import CsvWriter

DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "scenes.croissant.json"
REQUIRED = {
    "@context",
    "@type",
    "conformsTo",
    "description",
    "license",
    "name",
    "url",
    "creator",
    "datePublished",
    "distribution",
}
"""Of a data set: https://docs.mlcommons.org/croissant/docs/croissant-spec.html, "Required", and `distribution`."""


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the metadata, but not in the rows of record sets."""
    if isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key not in ("@context", "data"):
                yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_the_file_is_what_the_data_set_says_of_itself() -> None:
    made = runpy.run_path(str(DOCS / "croissant.py"))["text"]()
    assert made == FILE.read_text(encoding="utf-8"), "run `python docs/croissant.py`"


def test_it_has_what_the_specification_requires(metadata: dict[str, Any]) -> None:
    assert REQUIRED - set(metadata) == set()
    assert metadata["@type"] == "sc:Dataset"
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    kinds = {node["@type"] for node in nodes(metadata) if "@type" in node}
    assert kinds == {"sc:Dataset", "sc:Organization", "cr:FileObject", "cr:FileSet", "cr:RecordSet", "cr:Field"}
    for file in metadata["distribution"]:
        needed = {"contentUrl", "sha256"} if file["@type"] == "cr:FileObject" else {"includes"}
        assert needed | {"@id", "name", "encodingFormat"} <= set(file)
    terms = {key for node in nodes(metadata) for key in node} - {"@context", "@type", "@id"}
    schema = {"name", "description", "license", "url", "creator", "datePublished", "version", "inLanguage", "keywords",
              "distribution", "contentUrl", "encodingFormat", "sha256"}  # fmt: skip
    assert terms - schema - set(metadata["@context"]) == set()


def test_ids_are_unique_and_references_lead_to_them(metadata: dict[str, Any]) -> None:
    defined = [node["@id"] for node in nodes(metadata) if "@type" in node and "@id" in node]
    assert len(set(defined)) == len(defined)
    assert {node["@id"] for node in nodes(metadata) if set(node) == {"@id"}} <= set(defined)


def test_rows_have_the_fields_of_their_record_set(metadata: dict[str, Any]) -> None:
    for records in metadata["recordSet"]:
        fields = {field["@id"] for field in records["field"]}
        assert all(set(row) == fields for row in records.get("data", []))
        assert all(field["dataType"] for field in records["field"])
        assert "data" in records or all("source" in field for field in records["field"])


def test_the_files_that_compute_the_data_set_are_named_with_their_digests(metadata: dict[str, Any]) -> None:
    files = [file for file in metadata["distribution"] if file["@type"] == "cr:FileObject"]
    digests = {(DOCS / file["contentUrl"]).resolve(): file["sha256"] for file in files}
    package = DOCS.parent / "bench" / "data" / "scenes"
    assert digests == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in package.glob("*.py")}


def test_labels_and_sizes_are_those_of_the_data_set(metadata: dict[str, Any]) -> None:
    records = {entry["@id"]: entry for entry in metadata["recordSet"]}
    words = {name: [row[f"{name}/name"] for row in records[name]["data"]] for name in records if name != "pairs"}
    assert words["objects"] == list(grammar.SHAPES)
    assert words["colours"] == list(grammar.COLOURS)
    sheet = " ".join((DOCS / "datasheet.md").read_text(encoding="utf-8").split())
    for row in records["splits"]["data"]:
        assert f"| `{row['splits/name']}` | {row['splits/instances']:,} " in sheet
    counts = [len(words[name]) for name in ("objects", "colours", "textures", "backgrounds")]
    assert (
        "one of {} shapes in one of {} colours and {} textures, large or small, on one of {} backgrounds".format(*counts)
        in sheet
    )


def test_mlcroissant_reads_it_beside_an_export(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    writer = CsvWriter(tmp_path, "png", 8)
    for row, caption in enumerate(("a red ring", "one circle, today")):
        writer.add(encoded(Image.new("RGB", (8, 8), (row, 0, 0))), caption)
    writer.close()
    found = mlcroissant.Dataset(shutil.copy(FILE, tmp_path))
    assert not found.metadata.issues.errors
    pairs = {row["pairs/caption"].decode(): row["pairs/image"].getpixel((0, 0))[0] for row in found.records("pairs")}
    assert pairs == {"a red ring": 0, "one circle, today": 1}


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()
