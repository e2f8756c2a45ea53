"""Every registered plugin passes its contract checks."""

from __future__ import annotations

import pytest

from bench import plugins
from bench.registry import KINDS
from bench.testing import Check, checks_for

plugins.load()
CHECKS = [
    pytest.param(check, id=f"{kind}-{entry.plugin.name}-{check.name}")
    for kind, registry in KINDS.items()
    for entry in registry
    for check in checks_for(entry)
]


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check: Check) -> None:
    check.run()
