"""`outside_tasks`: where what runs belongs to nobody who happens to call it.

For servers. Client and server may share a process, and with it context variables: a request would
pay from the task of its caller there, and from none over a network. Not here: who pays instead.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from .frames import current, outside
from .runtime import HasRuntime, default_runtime
from .scopes import restore


@contextmanager
def outside_tasks(service: HasRuntime | None = None) -> Generator[None]:
    """Have calls in this block stand in no task, for no principal, with no token bound.

    Tasks that open inside are outermost ones. Nothing outside the block changes; do not yield
    across it in a generator that somebody else drives.

    Args:
        service: current inside; by default the one that is.
    """
    frame = current.get(None)
    if service is not None:
        runtime = service.runtime
    else:
        runtime = default_runtime() if frame is None else frame.runtime
    token = current.set(outside(runtime))
    try:
        yield
    finally:
        restore(token)
