"""Each test of services runs on every ledger that is at hand without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.sqlite import SqliteLedger
from tests.ledgers.places import Place


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        ledger = MemoryLedger()
        return Place(lambda: ledger)
    return Place(lambda: SqliteLedger(tmp_path / "budgetware.db"))
