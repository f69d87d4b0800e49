"""Every async test runs on asyncio, on trio, and on asyncio with eager tasks where it has them."""

import asyncio
import sys
from typing import Any

import pytest

Backend = tuple[str, dict[str, Any]]
BACKENDS: dict[str, Backend] = {"asyncio": ("asyncio", {}), "trio": ("trio", {})}

if sys.version_info >= (3, 12):

    def eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    BACKENDS["asyncio+eager"] = ("asyncio", {"loop_factory": eager_loop})


@pytest.fixture(params=list(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]
