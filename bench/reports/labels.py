"""Display names: plugins with the parameters that distinguish them, settings, and formatted numbers."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.canonical import identity
from bench.matrix.schema import PluginRecord

SCRATCH, FINE_TUNED = "from scratch", "fine-tuned"


class Labels:
    """Unique labels of plugin specs: the name, with the parameters that differ between specs of this name."""

    def __init__(self, specs: Iterable[PluginRecord]) -> None:
        by_name: dict[str, dict[str, PluginRecord]] = defaultdict(dict)
        for spec in specs:
            by_name[spec.name][spec.identity] = spec
        self._labels: dict[str, str] = {}
        for variants in by_name.values():
            named = {key: _describe(spec, variants.values()) for key, spec in variants.items()}
            for key, label in named.items():
                unique = list(named.values()).count(label) == 1
                self._labels[key] = label if unique else f"{label} #{short_hash(key)}"

    def of(self, spec: PluginRecord) -> str:
        return self._labels[spec.identity]


class Flat(dict[str, Any]):
    """Values by dotted names; missing ones are None."""

    def __missing__(self, name: str) -> None:
        return None


def _describe(spec: PluginRecord, variants: Iterable[PluginRecord]) -> str:
    flat = flatten(spec.params.dump())
    title = f"{spec.name} {percent_of(flat['rate'])}" if type(flat["rate"]) in (int, float) else spec.name
    changing = varying([flatten(variant.params.dump()) for variant in variants])
    parts = [f"{key}={plain(flat[key])}" for key in changing if key != "rate"]
    for field in ("version", "source"):
        if varying([{field: getattr(variant, field)} for variant in variants]):
            parts.append(f"{field}={plain(getattr(spec, field))[:12]}")
    return f"{title} ({', '.join(parts)})" if parts else title


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Flat:
    """Flatten nested tables to dotted names; lists are values."""
    flat = Flat()
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def varying(trees: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values differ between the trees, sorted."""
    keys = sorted({key for tree in trees for key in tree})
    return [key for key in keys if len({identity(tree[key]) for tree in trees}) > 1]


def track_of(weights: str | None) -> str:
    """The track of a run: from scratch, or fine-tuned from weights with this digest."""
    return FINE_TUNED if weights else SCRATCH


def weights_name(digest: str, given: str = "") -> str:
    """The tag or file name of weights, if known, and the start of their digest."""
    return f"{given} {digest[:14]}".strip()


def setting_titles(settings: Iterable[str], given: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Title (data, model) and subtitle (track, recipe, and differences between settings of one title) of each setting.

    `given` maps digests of weights to their tags or file names.
    """
    parsed = {setting: json.loads(setting) for setting in settings}
    titles = {key: " · ".join(_name(tree, part) for part in ("data", "model")) for key, tree in parsed.items()}
    result = {}
    for key, tree in parsed.items():
        flat = _flat_setting(tree)
        changing = varying([_flat_setting(other) for at, other in parsed.items() if titles[at] == titles[key]])
        weights = flat["model.weights"]
        track = f"{FINE_TUNED} from {weights_name(weights, given.get(weights, ''))}" if weights else SCRATCH
        usual = {"train.epochs": "{} epochs", "train.batch_size": "batch {}", "train.lr": "learning rate {}"}
        parts = [text.format(plain(flat[name])) for name, text in usual.items() if name in flat]
        parts += [f"{name} {plain(flat[name])[:40]}" for name in changing if name not in (*usual, "model.weights")]
        if flat["train.epochs"] == 1:
            parts[0] = "1 epoch"
        result[key] = titles[key], " · ".join([track, *parts])
    return result


def _flat_setting(tree: Mapping[str, Any]) -> Flat:
    flat = Flat()
    for key, value in flatten(tree).items():
        flat[key.replace(".params.", ".")] = plain(value)[:8] if key == "data.fingerprint" else value
    return flat


def _name(tree: Mapping[str, Any], part: str) -> str:
    return str(tree[part]["name"] or "unknown") if part in tree else "unknown"


def plain(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def percent_of(fraction: float) -> str:
    return f"{fraction * 100:.6g}%"


def number(value: float | None, unit: str = "fraction") -> str:
    """Format a value for a table: fractions in percent with one decimal, others with three significant digits."""
    if value is None:
        return "–"
    text = f"{value * 100:.1f}" if unit == "fraction" else f"{value:.3g}"
    return text.replace("-", "−")


def probability(value: float) -> str:
    """A p value."""
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def ranges(numbers: Iterable[int]) -> str:
    """0, 1, 2, 5 -> "0–2, 5"."""
    spans: list[list[int]] = []
    for value in sorted(set(numbers)):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in spans)
