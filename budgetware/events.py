"""Usage events and who listens to them. Not here: when one is made.

An event is made only when somebody listens. A listener that is slow loses events, counted in
`dropped`; it never delays a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock, RLock
from typing import Any, Literal, Protocol, cast

import anyio

from .accounts import drain
from .errors import ConfigurationError
from .loops import current_loop, post
from .usage import Usage

Outcome = Literal[
    "completed", "failed", "rejected", "terminated", "cancelled", "broken", "corrected"
]

_STATUS: dict[str, int] = {
    "completed": 200,
    "failed": 500,
    "rejected": 429,
    "terminated": 429,
    "cancelled": 499,
    "broken": 0,
    "corrected": 200,
}


def status_of(outcome: str, error: BaseException | None) -> int:
    """The HTTP status an outcome stands for; a failure's own `status_code` comes first."""
    own = getattr(error, "status_code", None)
    if outcome == "failed" and isinstance(own, int) and not isinstance(own, bool):
        return own
    return _STATUS[outcome]


def error_name(error: BaseException | None) -> str | None:
    """The qualified name of an exception's type, a group of one unwrapped; never its text."""
    shown: Any = error
    while isinstance(shown, BaseExceptionGroup) and len(cast("Any", shown).exceptions) == 1:
        shown = cast("Any", shown).exceptions[0]
    if shown is None:
        return None
    kind: Any = type(cast("object", shown))
    name = str(kind.__qualname__)
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


@dataclass(slots=True)
class UsageEvent:
    """The record of one reservation; under `retry`, of one attempt. Treat it as read-only.

    Attributes:
        timestamp: seconds since the epoch, when it ended.
        request_id: the reservation's id; a correction carries the same one.
        principal, task: on whose behalf, and the path of the task (`""` outside any).
        kind, name, model, provider, endpoint: what was called, as far as it was said.
        usage: what the model reported, or None when it reported nothing.
        reserved, charged: amounts by dimension, `usd` in dollars; in a correction, `charged`
            is the signed difference.
        duration_ms, wait_ms: the call's own time, and the time it waited for its turn before
            that, also where it was refused or cancelled then; 0 in a correction.
        status, outcome: see `status_of`.
        error: qualified name of the exception's type, never its text.
    """

    timestamp: float
    request_id: str
    principal: str | None
    task: str
    kind: str | None
    name: str | None
    model: str | None
    provider: str | None
    endpoint: str | None
    usage: Usage | None
    reserved: dict[str, int | Decimal]
    charged: dict[str, int | Decimal]
    duration_ms: float
    wait_ms: float
    status: int
    outcome: Outcome
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: money as strings, usage as an object of its non-zero axes."""
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for key in ("reserved", "charged"):
            row[key] = {d: str(v) if isinstance(v, Decimal) else v for d, v in row[key].items()}
        if self.usage is not None:
            axes = {name: getattr(self.usage, name) for name in Usage.__slots__}
            row["usage"] = {name: value for name, value in axes.items() if value}
        return row


class QuickEvent(tuple[Any, ...]):
    """An event of a call that was charged what it held, made when it is called for.

    A tuple, as there is one for each call: what makes it, the plan and the call, the number of the
    reservation, when it ended, how many nanoseconds it took.
    """

    __slots__ = ()

    def __call__(self) -> UsageEvent:
        make, *facts = self
        made: UsageEvent = make(*facts)
        return made


def event_of(row: Mapping[str, Any]) -> UsageEvent:
    """Make an event of its JSON form; keys that are not known are passed over."""
    values: dict[str, Any] = {name: row.get(name) for name in UsageEvent.__slots__}
    for key in ("reserved", "charged"):
        table: Mapping[str, Any] = row.get(key) or {}
        values[key] = {d: Decimal(v) if isinstance(v, str) else v for d, v in table.items()}
    if values["usage"] is not None:
        given = values["usage"]
        values["usage"] = Usage(**{k: v for k, v in given.items() if k in Usage.__slots__})
    return UsageEvent(**values)


class Subscription:
    """A bounded queue of events, read with `async for`; `dropped` counts what did not fit.

    Close it, or leave its `with` block, when done; reading then ends after what is queued.
    """

    def __init__(self, events: Events, maxsize: int) -> None:
        self.dropped = 0
        self._events = events
        self._maxsize = maxsize
        self._queue: deque[Callable[[], UsageEvent]] = deque()
        self._lock = RLock()  # a collection inside it may put an event
        self._closed = False
        self._waiting: tuple[Any, anyio.Event] | None = None

    def put(self, event: Callable[[], UsageEvent]) -> None:
        """Queue an event, made when it is read, or count it as dropped.

        From any thread; never waits.
        """
        with self._lock:
            if self._closed:
                return
            if len(self._queue) >= self._maxsize:
                self.dropped += 1
                return
            self._queue.append(event)
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _wake(*waiting)

    def close(self) -> None:
        """Stop receiving; a reader that waits is let go."""
        self._events.remove(self)
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _wake(*waiting)

    def get_nowait(self) -> UsageEvent | None:
        """Take the oldest queued event, or None. For code without an event loop."""
        drain()
        with self._lock:
            event = self._queue.popleft() if self._queue else None
        return None if event is None else event()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> UsageEvent:
        """Take the oldest event, waiting for one; one task may read at a time."""
        while True:
            drain()
            with self._lock:
                if self._queue:
                    return self._queue.popleft()()
                if self._closed:
                    raise StopAsyncIteration
                arrived = anyio.Event()
                self._waiting = (current_loop(), arrived)
            await arrived.wait()


def _wake(loop: Any, arrived: anyio.Event) -> None:
    post(loop, arrived.set)


class Listener(Protocol):
    """Who is told of usage events."""

    def put(self, event: Callable[[], UsageEvent]) -> None:
        """Take an event, made when it is called for. From any thread; never waits."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


class Events:
    """The listeners of a service."""

    __slots__ = ("_lock", "listeners")

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self._lock = Lock()

    def add(self, listener: Listener) -> None:
        """Deliver to a listener from now on."""
        with self._lock:
            self.listeners = (*self.listeners, listener)

    def subscribe(self, maxsize: int) -> Subscription:
        """Start a subscription that holds at most `maxsize` unread events."""
        if type(maxsize) is not int or maxsize < 1:
            raise ConfigurationError(f"maxsize={maxsize!r}: give an int of at least 1")
        subscription = Subscription(self, maxsize)
        self.add(subscription)
        return subscription

    def remove(self, listener: Listener) -> None:
        """Stop delivering to a listener."""
        with self._lock:
            self.listeners = tuple(s for s in self.listeners if s is not listener)

    def emit(self, event: Callable[[], UsageEvent]) -> None:
        """Deliver to every listener."""
        for listener in self.listeners:
            listener.put(event)
