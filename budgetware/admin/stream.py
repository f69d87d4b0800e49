"""Recorded events as a stream that many clients read: Server-Sent Events.

One client after the other runs the pump, which asks for new events and hands them to all; without
clients nothing runs. A client that does not read loses events, and is told how many. Not here:
who may read (`door_keeper`), and the connection of a client (`event_stream`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import anyio

from ..errors import BudgetwareError
from ..service import QuotaService
from .answers import json_text
from .failures import Failure, retry_header, server_leaving
from .leaving import LOOK_SECONDS, is_server_leaving
from .sight import Sight
from .worker import Worker

MOST_CLIENTS = 64
MOST_OF_A_KEY = 16
"""So many clients of them may have the same key, where there are keys."""
MOST_QUEUED = 1_000
PAGE = 500
PUMP_SECONDS = 0.05
AWAY_SECONDS = 1.0
MOST_ROUNDS = 5
"""So often a client reads on to where the pump is by then."""
MOST_BEHIND = 2_000
"""The pump leaves events out where more than these are waiting; no call may wait for it."""
Row = tuple[int, str | None, bytes]
"""An event as it is sent: its number, its principal, and its text."""


@dataclass(slots=True)
class Gap:
    """Events that a client was not sent; `count` is None where it is not known how many."""

    count: int | None

    def widen(self, count: int | None) -> None:
        """Add to it."""
        self.count = None if self.count is None or count is None else self.count + count

    def text(self) -> bytes:
        """What the client is told."""
        return f"event: dropped\ndata: {json_text({'count': self.count})}\n\n".encode()


class Client:
    """What one client has not been sent yet.

    Attributes:
        sees: whether it may see what is a principal's.
        number: of the last event that was given to it, or passed over.
        present: it reads up to this one by itself, which it does for so many rounds.
        dropped: how many it was not sent, as far as that is known.
    """

    def __init__(self, sight: Sight, number: int, present: int = 0) -> None:
        self.number = number
        self.present = present
        self.rounds = 0
        self.dropped = 0
        self._sight = sight
        self._queue: deque[bytes | Gap] = deque()
        self._queued = 0
        self._arrived = anyio.Event()

    def of(self, rows: Sequence[Row], reached: int) -> list[bytes]:
        """The texts of those that it may see and has not had; it has had them then."""
        seen: dict[str | None, bool] = {}
        texts: list[bytes] = []
        for number, principal, text in rows:
            if number <= self.number:
                continue
            if principal not in seen:
                seen[principal] = self._sight.sees(principal)
            if seen[principal]:
                texts.append(text)
        self.number = max(self.number, reached)
        return texts

    def put(self, rows: Sequence[Row], reached: int) -> None:
        """Queue events; what does not fit is counted."""
        texts = self.of(rows, reached)
        room = MOST_QUEUED - self._queued
        self._queue.extend(texts[:room])
        self._queued += min(room, len(texts))
        if len(texts) > room:
            self._drop(len(texts) - room)
        if texts:
            self._arrived.set()

    def skip(self, count: int) -> None:
        """Leave out so many of everybody's; how many of them are its own is not known."""
        if count > 0:
            self._drop(count if self._sight.is_all else None)
            self._arrived.set()

    def _drop(self, count: int | None) -> None:
        """Note it in its place among the others."""
        self.dropped += count or 0
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Gap):
            last.widen(count)
        else:
            self._queue.append(Gap(count))

    async def take(self, seconds: float) -> bytes:
        """What there is to send; empty where there is nothing for so long."""
        if not self._queue:
            self._arrived = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._arrived.wait()
        items, self._queue, self._queued = self._queue, deque(), 0
        return b"".join([item.text() if isinstance(item, Gap) else item for item in items])


def row_of(number: int, event: Mapping[str, Any]) -> Row:
    """An event as it is sent."""
    text = f"id: {number}\nevent: usage\ndata: {json_text(event)}\n\n".encode()
    return number, event["principal"], text


class Broadcast:
    """The clients of one event loop, and the pump that feeds them.

    Attributes:
        clients: those that the pump feeds.
        joined: how many there are, with those that are still being told what they have missed.
    """

    def __init__(self, service: QuotaService, worker: Worker) -> None:
        self.clients: set[Client] = set()
        self.joined = 0
        self._joined_by: Counter[str | None] = Counter()
        self._service = service
        self._worker = worker
        self._number = 0
        self._turn = anyio.Lock()
        self._closing = anyio.Event()

    @property
    def is_pumping(self) -> bool:
        """Whether anything runs."""
        return self._turn.locked()

    def join(self, key: str | None) -> None:
        """Count in a client that has this key; raises `Failure` where there are too many."""
        if self._closing.is_set():
            raise server_leaving()
        if self.joined >= MOST_CLIENTS:
            raise _too_many(f"{MOST_CLIENTS} clients listen")
        if key is not None and self._joined_by[key] >= MOST_OF_A_KEY:
            raise _too_many(f"{MOST_OF_A_KEY} clients listen with this key")
        self.joined += 1
        self._joined_by[key] += 1

    def leave(self, key: str | None, client: Client | None = None) -> None:
        """Count it out."""
        self.joined -= 1
        self._joined_by[key] -= 1
        if client is not None:
            self.clients.discard(client)

    def close(self) -> None:
        """End all streams. On the event loop."""
        self._closing.set()

    async def closed(self) -> None:
        """Wait for that."""
        await self._closing.wait()

    def look(self, after: int) -> tuple[list[Row], int]:
        """Events after a number, as they are sent, and up to which number that is. Blocks."""
        last = self._service.last_recorded()
        if last <= after:
            return [], after
        rows = [row_of(*found) for found in self._service.recorded(after=after, limit=PAGE)]
        reached = rows[-1][0] if rows else last  # between them, other things have numbers, too
        return rows, reached if len(rows) == PAGE else max(reached, last)

    def begin(self, sight: Sight, after: int | None) -> tuple[Client, int]:
        """A client, and how many events are no longer there for it. Blocks."""
        last = self._service.last_recorded()
        client = Client(sight, last if after is None else min(after, last), last)
        if not after or after >= last:
            return client, 0
        records = self._service.runtime.records
        kept = [] if records is None else records.usage(0.0, inf)
        return client, max(0, kept[0][0] - after - 1) if kept else 0

    async def page(self, client: Client) -> list[bytes]:
        """What a client has missed; the pump feeds it when it has had the past."""
        rows, reached = await self._worker.look(self.look, client.number)
        texts = client.of(rows, reached)
        if client.number >= client.present:
            self._take_over(client)
        return texts

    def _take_over(self, client: Client) -> None:
        """Feed a client from now on: a part of the present may be left out, not of the past."""
        if not self.clients:
            self._number = client.number
        elif client.number < self._number:
            client.present = self._number
            client.rounds += 1
            if client.rounds < MOST_ROUNDS:
                return
            client.skip(self._number - client.number)
            client.number = self._number
        self.clients.add(client)

    async def pump(self) -> None:
        """Feed all clients while it is this client's turn to; it may never be."""
        async with self._turn, anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            while True:
                seconds = PUMP_SECONDS
                if self.clients:
                    try:
                        seconds = await self.feed()
                    except BudgetwareError:  # the ledger is away, or the service is closed
                        seconds = AWAY_SECONDS
                await anyio.sleep(seconds)

    async def feed(self) -> float:
        """Hand what is new to all clients; returns in how many seconds to do so again."""
        before, began = self._number, anyio.current_time()
        rows, reached, skipped = await self._worker.look(self._news, before)
        took = anyio.current_time() - began
        for client in tuple(self.clients):
            client.skip(before + skipped - client.number)
            client.put(rows, reached)
        self._number = max(self._number, reached)
        return min(took, PUMP_SECONDS) if len(rows) == PAGE else PUMP_SECONDS

    def _news(self, before: int) -> tuple[list[Row], int, int]:
        """Events after a number; of too many the newest, and how many those leave out. Blocks."""
        behind = self._service.last_recorded() - before
        skipped = behind - PAGE if behind > MOST_BEHIND else 0
        return *self.look(before + skipped), skipped

    async def _watch(self) -> None:
        """Close when the server is about to, which waits for its streams; or with the service."""
        while not (is_server_leaving() or self._service.is_closed):  # noqa: ASYNC110 - as there
            await anyio.sleep(LOOK_SECONDS)
        self.close()


def _too_many(message: str) -> Failure:
    return Failure(503, "TooManyClients", message, headers=retry_header(5))
