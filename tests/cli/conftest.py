"""A ledger that programs have used."""

from pathlib import Path

import pytest

from tests.cli.command_line import make_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return make_ledger(tmp_path)
