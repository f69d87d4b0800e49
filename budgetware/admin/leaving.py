"""Whether the server is about to end: it tells no application, and waits for its answers.

Not here: what ends then.
"""

from __future__ import annotations

import signal

import anyio

LOOK_SECONDS = 0.05


def is_server_leaving() -> bool:
    """Whether uvicorn shuts down in this process."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


async def until_server_leaves() -> None:
    """Wait for that."""
    while not is_server_leaving():  # noqa: ASYNC110 - nothing tells it
        await anyio.sleep(LOOK_SECONDS)
