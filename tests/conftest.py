"""Every async test runs on asyncio, on trio, and on asyncio with eager tasks where it has them."""

import asyncio
import gc
import importlib
import sys
from collections.abc import Generator
from typing import Any

import pytest

from budgetware.frames import current

Backend = tuple[str, dict[str, Any]]
BACKENDS: dict[str, Backend] = {"asyncio": ("asyncio", {}), "trio": ("trio", {})}

if sys.version_info >= (3, 12):

    def eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    BACKENDS["asyncio+eager"] = ("asyncio", {"loop_factory": eager_loop})


def pytest_collection_finish() -> None:
    """Collections need not look at all that the frameworks' modules hold: no pauses by them."""
    importlib.import_module("hypothesis")  # it looks for referrers of what it finds when imported
    gc.collect()
    gc.freeze()


@pytest.fixture(params=list(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


@pytest.fixture(autouse=True)
def nothing_stays_current() -> Generator[None]:
    """No test leaves its service or task to the next."""
    before = current.get(None)
    yield
    left = current.get(None)
    if left is not before:
        if before is not None:
            current.set(before)
        pytest.fail(f"still current: {left}")
