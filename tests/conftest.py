import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors gain nothing from threads; read when torch is first imported
os.environ.setdefault("BENCH_JOBS", "1")  # in the process of the tests, which see what goes on in it

import pytest

from bench import plugins
from bench.registry import KINDS


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the session's own, for this process and those it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """All built-in plugins; what a test registers beyond them goes away with it."""
    plugins.load()
    for registry in KINDS.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(plugins, "_loaded", set(plugins._loaded))
    monkeypatch.setattr(plugins, "_broken", dict(plugins._broken))
