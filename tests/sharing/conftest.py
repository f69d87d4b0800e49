"""Services, clocks and tokens for these tests; nothing here takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from budgetware import QuotaService, QuotaToken, connect
from budgetware.testing import LoopClock, VirtualClock, virtual_backend

Keep = Callable[[QuotaToken], QuotaToken]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def service(clock: VirtualClock) -> Iterator[QuotaService]:
    """The process-wide service of a test; its time moves by `clock.advance`."""
    with connect(clock=clock) as connected:
        yield connected


@pytest.fixture
def looped() -> Iterator[QuotaService]:
    """The same, in the time of the virtual event loop."""
    with connect(clock=LoopClock()) as connected:
        yield connected


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Tokens given to it are closed when the test is over."""
    with ExitStack() as stack:

        def kept(token: QuotaToken) -> QuotaToken:
            stack.callback(token.close)
            return token

        yield kept
