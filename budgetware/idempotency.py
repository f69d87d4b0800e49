"""Reservations by a key: the same key and amounts give the same reservation, for a day.

In one process that is the very same hold. Where there is a ledger, the key is taken there first,
so that a job which is tried again by another process is not charged twice. Not here: holding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from . import holds
from .accounts import acquire, release
from .calls import PLAIN
from .errors import ConfigurationError, IdempotencyConflict
from .frames import Amounts, Frame
from .holds import Hold
from .ids import new_id
from .kernel.dims import show
from .ledgers.errands import Errand
from .ledgers.protocol import Ledger
from .runtime import Runtime

KEPT_SECONDS = 86_400.0
MAX_KEYS = 100_000
_LONGEST = 256


@dataclass(slots=True)
class Entry:
    """A key, and what became of it; `hold` is None while it is being reserved."""

    fingerprint: str
    expires: float
    seconds: float
    node: str = ""
    hold: Hold | None = None


def check_key(key: object) -> str:
    """Return a key, or raise."""
    if isinstance(key, str) and 0 < len(key) <= _LONGEST and key.isprintable():
        return key
    raise ConfigurationError(
        f"idempotency_key={show(key)}: give a text of 1 to {_LONGEST} printable characters"
    )


def _fingerprint(frame: Frame, amounts: Amounts) -> str:
    """What must be the same when a key comes again."""
    target = None if frame.aim is None else frame.aim.pool.name
    return json.dumps([target, sorted(amounts)], separators=(",", ":"))


class KeyClaim:
    """A key about to be taken; a block around the holding frees it again if that fails."""

    def __init__(self, frame: Frame, key: str, amounts: Amounts, seconds: float) -> None:
        self._frame = frame
        self._key = key
        self._entry = Entry(
            _fingerprint(frame, amounts), frame.runtime.clock.time() + KEPT_SECONDS, seconds
        )
        self._is_left = self._is_asking = False

    def take(self) -> Hold | None:
        """Take it; returns the hold it stands for already, or None: that is to be held now.

        Blocks where there is a ledger.

        Raises:
            IdempotencyConflict: it came with other amounts, or is held by another process now.
            LedgerUnavailable: it is not known whether it is taken.
        """
        runtime = self._frame.runtime
        known = _take_here(runtime, self._key, self._entry)
        return known if known is not None or runtime.shared is None else self._ask()

    async def take_async(self) -> Hold | None:
        """The same in a task: it blocks nobody. Checkpoint where there is a ledger."""
        runtime = self._frame.runtime
        known = _take_here(runtime, self._key, self._entry)
        if known is not None or runtime.shared is None:
            return known
        try:
            found: Hold | None = await to_thread.run_sync(self._ask)
        except BaseException:  # a native cancellation does not wait for the thread
            self._is_left = True
            if not self._is_asking:
                self._free()
            raise
        return found

    def _free(self) -> None:
        _free(self._frame.runtime, self._key, self._entry)

    def _ask(self) -> Hold | None:
        self._is_asking = True
        with self:
            found = _take_there(self._frame.runtime, self._key, self._entry)
            if found is not None:
                self.held(_foreign(self._frame, self._key, found))
        self._is_asking = False
        if self._is_left:
            self._free()
        known: Hold | None = self._entry.hold
        return known

    def held(self, hold: Hold) -> None:
        """It is held for."""
        hold.key = self._key
        self._entry.hold = hold

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            self._free()


def _take_here(runtime: Runtime, key: str, entry: Entry) -> Hold | None:
    now = runtime.clock.time()
    try:
        acquire()
        entries: dict[str, Entry] = runtime.keys
        known = entries.get(key)
        if known is not None and known.expires > now:
            _check(key, known.fingerprint, entry.fingerprint)
            if known.hold is None:
                raise IdempotencyConflict(
                    f"idempotency key {key!r} is being reserved just now: try again"
                )
            return known.hold
        if len(entries) >= MAX_KEYS:
            for old in [k for k, e in entries.items() if e.expires <= now]:
                del entries[old]
        if len(entries) >= MAX_KEYS:
            raise IdempotencyConflict(
                f"more than {MAX_KEYS} idempotency keys within a day: use fewer"
            )
        entries[key] = entry
        return None
    finally:
        release()


def _check(key: str, known: str, given: str) -> None:
    if known != given:
        raise IdempotencyConflict(
            f"idempotency key {key!r} came with other amounts before: use a key for each call"
        )


def _take_there(runtime: Runtime, key: str, entry: Entry) -> dict[str, Any] | None:
    """Take it in the ledger; the first attempt that was not refused stands."""
    now = runtime.clock.time()
    mine = new_id()
    until = now + entry.seconds
    text = json.dumps(
        {"fingerprint": entry.fingerprint, "by": mine, "until": until, "state": "held"}
    )

    def remember(ledger: Ledger) -> dict[str, Any] | None:
        attempt = 0
        while True:
            entry.node = f"i/{key}/{attempt}"
            found: dict[str, Any] = json.loads(ledger.remember(entry.node, text, KEPT_SECONDS))
            if found["by"] == mine:
                return None
            if found["state"] != "refused":
                entry.node = ""  # it is another's, to settle or to free
                return found
            attempt += 1

    found = runtime.call_ledger(remember)
    if found is None:
        return None
    _check(key, found["fingerprint"], entry.fingerprint)
    if found["state"] == "held" and found["until"] > now:
        raise IdempotencyConflict(
            f"idempotency key {key!r} is held by another process: it settles it within "
            f"{found['until'] - now:.0f} s, or is charged what it held"
        )
    return found


def _foreign(frame: Frame, key: str, found: dict[str, Any]) -> Hold:
    """A hold of another process, as it ended there."""
    amounts: Amounts = tuple((dim, n) for dim, n in json.loads(found["fingerprint"])[1])
    hold = Hold(frame, PLAIN, frame.items_of(amounts), frame.tally(PLAIN.operation))
    hold.state = "assumed" if found["state"] == "held" else found["state"]
    hold.booked = found.get("booked")
    hold.known_id = found.get("id") or found["by"]
    hold.key = key
    return hold


def _free(runtime: Runtime, key: str, entry: Entry) -> None:
    """It was not granted: whoever comes next may try."""
    if runtime.keys.get(key) is entry:
        del runtime.keys[key]
    node, entry.node = entry.node, ""
    if node and runtime.shared is not None:
        text = json.dumps({"fingerprint": entry.fingerprint, "by": "", "state": "refused"})
        runtime.shared.courier.tell(Errand("replace", node, text))


def settled(hold: Hold) -> None:
    """Tell the ledger what became of a key. Never waits."""
    runtime = hold.frame.runtime
    entry = runtime.keys.get(hold.key or "")
    if entry is None or not entry.node or runtime.shared is None:
        return
    text = json.dumps(
        {
            "fingerprint": entry.fingerprint,
            "by": hold.id,
            "until": 0,
            "id": hold.id,
            "state": hold.state,
            "booked": hold.units(),
        }
    )
    runtime.shared.courier.tell(Errand("replace", entry.node, text))


holds.key_settled = settled
