"""Every async test here runs in virtual time, on both event loops, with a service of its own."""

from collections.abc import Iterator
from typing import Any

import pytest

from budgetware import QuotaService, connect
from budgetware.testing import LoopClock, virtual_backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
def service() -> Iterator[QuotaService]:
    """A service whose clock is that of the virtual loop."""
    with connect(clock=LoopClock()) as connected:
        yield connected
