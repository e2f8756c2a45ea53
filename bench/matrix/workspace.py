"""State that the cells of a matrix share: opened data, tokens, poison plans."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench import keys
from bench.api import Attack, AttackContext, DataPlace, DatasetBundle, Images, PoisonPlan
from bench.canonical import digest
from bench.config import DataSpec, RunSpec, Settings
from bench.data import pixel_file
from bench.data.downstream import Downstream, open_sets
from bench.data.files import MEMORY_BUDGET, CachedImages
from bench.data.poisoned import PoisonedPairs
from bench.data.tokens import cached_tokens
from bench.errors import UserError
from bench.matrix.crafted import crafted
from bench.matrix.unread import require_read
from bench.models import context, factory
from bench.models.frozen import FrozenSurrogate
from bench.models.word_tokenizer import ModelTokenizer
from bench.recipe import PRETRAINED, Recipe
from bench.registry import attacks, datasets

_PRELOAD_BATCH = 512


def cache_folder() -> Path | None:
    """BENCH_CACHE, or the user's cache folder; None if it is not writable."""
    base = os.environ.get("BENCH_CACHE")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clip-poison-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


@dataclass(frozen=True)
class WorkspaceSource:
    """How to open a workspace, in another process too; `settings_args` are the arguments of its Settings."""

    settings_args: tuple[str, tuple[str, ...], str | None, Recipe | None]
    data: str
    root: Path | None = None
    downstream_root: Path | None = None

    @property
    def recipe(self) -> Recipe | None:
        """The requested recipe; None is the data set's."""
        return self.settings_args[3]

    def open(self) -> Workspace:
        return Workspace(Settings(*self.settings_args), self.data, self.root, self.downstream_root)

    def absolute(self) -> WorkspaceSource:
        """The same with absolute paths."""
        roots = (folder.absolute() if folder else None for folder in (self.root, self.downstream_root))
        data, options, model, recipe = self.settings_args
        return WorkspaceSource((data, tuple(map(_absolute, options)), model, recipe), self.data, *roots)


def _absolute(option: str) -> str:
    """An option of --set, with an absolute path if it names a file of weights."""
    path, _, value = option.partition("=")
    file = Path(value.strip().strip("\"'"))
    return f"{path}={json.dumps(str(file.absolute()))}" if path.strip() == PRETRAINED and file.is_file() else option


class Workspace:
    """One data set at one model's image size; everything in it is computed once.

    Attributes
    ----------
    bundle : DatasetBundle
        The data that cells are trained on and attacks poison.
    measured : DatasetBundle
        The same, with the downstream sets of --downstream-root as further tasks.
    """

    def __init__(self, settings: Settings, data: str, root: Path | None, downstream_root: Path | None = None) -> None:
        entry = datasets[data]
        if entry.plugin.needs_root and root is None:
            raise UserError(f"--data {data}: give its folder with --data-root DIR")
        self.source = WorkspaceSource(settings.args, data, root, downstream_root)
        self.model = settings.model
        params = settings.data(entry.plugin)
        side = factory.image_size(self.model.name)
        self.bundle: DatasetBundle = entry.plugin().open(params, side, DataPlace(root, cache_folder()))
        self.downstream = Downstream()
        if downstream_root is not None:
            self.downstream = open_sets(downstream_root, side, [task.name for task in self.bundle.tasks])
        self.measured = replace(self.bundle, tasks=(*self.bundle.tasks, *self.downstream.tasks))
        self.data = DataSpec(**entry.identity(), params=params.model_dump(mode="json"), fingerprint=self.bundle.fingerprint)
        self._rows: dict[str, torch.Tensor] = {}
        self._train_tokens: dict[str, NDArray[np.integer]] = {}
        self._crafted: set[str] = set()
        self._preloaded = False
        self._plans: dict[str, tuple[Attack, PoisonPlan, AttackContext]] = {}

    def preload(self, on_loaded: Callable[[int], None]) -> None:
        """Load the images that fit in memory, so that a damaged one is found before anything is trained.

        `on_loaded` is called with the number of images in each batch. Raises UserError naming the damaged file.
        """
        if self._preloaded:
            return
        bundle = self.bundle
        in_files = self._read_pixels(on_loaded)
        sources: list[Images] = [bundle.train.images, bundle.holdout.images, bundle.test.images]
        sources += [images for task in bundle.tasks for images in (task.train_images, task.test_images)]
        sources += self.downstream.kept
        for images in {id(each): each for each in sources if each not in in_files}.values():
            if len(images) * 3 * bundle.image_size**2 > MEMORY_BUDGET:
                continue
            for start in range(0, len(images), _PRELOAD_BATCH):
                chunk = np.arange(start, min(start + _PRELOAD_BATCH, len(images)))
                images.load(chunk)
                on_loaded(len(chunk))
        self._preloaded = True

    def _read_pixels(self, on_loaded: Callable[[int], None]) -> list[Images]:
        """The images of pairs that are now read decoded from files, if there is a folder for such files."""
        folder, bundle = pixel_file.folder(), self.bundle
        found: list[Images] = []
        for pairs in (bundle.train, bundle.holdout, bundle.test):
            if folder and isinstance(pairs.images, CachedImages):
                file = folder / pixel_file.name([bundle.fingerprint, bundle.image_size], pairs.uids)
                pixel_file.read_from(file, pairs.images, on_loaded)
                found.append(pairs.images)
        return found

    @cached_property
    def tokenizer(self) -> ModelTokenizer:
        return factory.tokenizer(self.model.name)

    def tokens(self, prompts: Sequence[str]) -> torch.Tensor:
        """Tokens int64 (n, length); each distinct prompt is tokenised once."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._rows]
        if new:
            self._rows.update(zip(new, self.tokenizer(new), strict=True))
        return torch.stack([self._rows[prompt] for prompt in prompts])

    def train_tokens(self, model: str, on_progress: Callable[[int, int], None]) -> NDArray[np.integer]:
        """A model's tokens of the clean training captions; `on_progress` is called with (captions in all, captions done)."""
        if model not in self._train_tokens:
            captions, identity = self.bundle.train.captions, factory.tokenizer_identity(model)
            report = partial(on_progress, len(captions))
            self._train_tokens[model] = cached_tokens(captions, factory.tokenizer(model), identity, cache_folder(), report)
        return self._train_tokens[model]

    def poison(self, spec: RunSpec) -> tuple[Attack, PoisonPlan, AttackContext]:
        """The attack of a cell with its plan and context; the same for every defense."""
        assert spec.attack is not None
        parts = keys.poison_parts(spec)
        key = digest(parts)
        if key not in self._plans:
            plugin = attacks[spec.attack.name].plugin
            attack = plugin(plugin.Params.model_validate(spec.attack.params))
            reads = partial(context.reads, self.tokenizer)
            ctx = AttackContext(self.bundle, lambda purpose: keys.generator(*parts, purpose), reads)
            plan = attack.plan(ctx)
            require_read(attack, plan, ctx, self.model.name)
            self._plans[key] = attack, plan, ctx
        return self._plans[key]

    def craft(self, spec: RunSpec, surrogate: FrozenSurrogate) -> None:
        """Let the attack of a cell complete its plan against a model, once for all defenses."""
        attack, plan, ctx = self.poison(spec)
        key = digest(keys.poison_parts(spec))
        if key not in self._crafted:
            made = crafted(attack, ctx, plan, surrogate, keys.poison_parts(spec), cache_folder())
            require_read(attack, made, ctx, self.model.name)
            self._plans[key] = attack, made.model_copy(update={"planned": plan.chosen()}), ctx
            self._crafted.add(key)

    def set_plan(self, spec: RunSpec, plan: PoisonPlan) -> None:
        """Use the poison plan of rank 0."""
        attack, _, ctx = self.poison(spec)
        self._plans[digest(keys.poison_parts(spec))] = attack, plan, ctx

    def pairs(self, spec: RunSpec) -> PoisonedPairs:
        """The training set of a cell."""
        attack, plan, _ = self.poison(spec) if spec.attack else (None, None, None)
        rng = keys.generator(*keys.order_parts(spec, plan.chosen() if plan else None), "positions")
        return PoisonedPairs(self.bundle, attack, plan, rng)
