"""Top-ups that were made, by the id of their request, so that each counts once.

Not here: making one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from .failures import Failure, conflict, retry_header

KEPT_SECONDS = 86_400.0
LEAST_KEPT_SECONDS = 3_600.0
MOST = 10_000


class _Request:
    """One request: what it asked for, and what became of it."""

    __slots__ = ("asked", "at", "has_failed", "lock", "result")

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.at = time.monotonic()
        self.lock = Lock()
        self.has_failed = False
        self.result: Any = None


class TopUps:
    """The requests of a day; of an hour, where there are more than `MOST`."""

    def __init__(self) -> None:
        self._known: dict[str, _Request] = {}
        self._lock = Lock()

    def once(self, request_id: str, asked: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """Return what `make` gave for this request, which is called once. Blocks.

        One that failed is forgotten, and may come again.

        Raises:
            Failure: 409, it came with other amounts before; 429, there are too many.
        """
        text = json.dumps(asked, sort_keys=True, default=str)
        while True:
            request = self._find(request_id, text)
            with request.lock:  # whoever comes second waits for what becomes of the first
                if not request.has_failed:
                    return self._made(request_id, request, make)

    def _made(self, request_id: str, request: _Request, make: Callable[[], Any]) -> Any:
        if request.result is None:
            try:
                request.result = make()
            except BaseException:
                request.has_failed = True
                self._forget(request_id, request)
                raise
        return request.result

    def _find(self, request_id: str, text: str) -> _Request:
        with self._lock:
            known = self._known.get(request_id)
            if known is not None and time.monotonic() - known.at < KEPT_SECONDS:
                if known.asked != text:
                    raise conflict("this id came with another top-up before", "request_id")
                return known
            self._known.pop(request_id, None)
            if len(self._known) >= MOST:
                self._make_room()
            made = self._known[request_id] = _Request(text)
            return made

    def _make_room(self) -> None:
        """Forget what is old, oldest first; refuse where nothing is."""
        oldest_id, oldest = next(iter(self._known.items()))
        age = time.monotonic() - oldest.at
        if age < LEAST_KEPT_SECONDS:
            raise Failure(
                429,
                "TooManyTopUps",
                f"more than {MOST} top-ups within an hour",
                headers=retry_header(math.ceil(LEAST_KEPT_SECONDS - age)),
            )
        del self._known[oldest_id]

    def _forget(self, request_id: str, request: _Request) -> None:
        with self._lock:
            if self._known.get(request_id) is request:
                del self._known[request_id]
