"""What could not be told to the ledger, kept on disk: no death of a process loses it.

While the ledger is away each process writes, again and again, what it would have to tell if it
ended now. Where it does end, the next one that opens a service with the same outbox and ledger
tells that for it: once, as epochs have it, however often it is told. Everything here runs in the
thread of the courier. Not here: the files (`letter_files`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import islice
from os import PathLike
from pathlib import Path
from time import monotonic_ns

from ..accounts import acquire, release
from ..clock import Clock
from ..errors import ConfigurationError, LedgerUnavailable
from ..kernel.dims import show
from .claims import FORGOTTEN_SECONDS, make_parting
from .errands import Errand
from .file_lock import check_platform
from .leases import Lease
from .letter_files import MAX_LETTERS, LetterFile, make_directory, stems
from .letters import Letter, Parting
from .protocol import Ledger
from .terms import TOMBSTONE_SECONDS
from .usage_queue import UsageQueue

_log = logging.getLogger("budgetware")
_ADOPTION_NS = 2_000_000_000
"""For so long the opening of a service waits until what the dead left is booked."""
_BATCH = 200


class Outbox:
    """The directory, on a local disk, and what this process has in it.

    Attributes:
        is_full: whether it holds what this process has to tell.
        has_orphans: whether there may be letters of others to take up.

    Raises:
        ConfigurationError: it is no path, or the platform has no locks for it.
    """

    def __init__(self, directory: object) -> None:
        check_platform()
        name = os.fspath(directory) if isinstance(directory, PathLike) else directory
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ConfigurationError(f"outbox={show(directory)}: give the path of a directory")
        self._directory = Path(name).absolute()
        self._mine: LetterFile | None = None
        self._address = ""
        self._last: tuple[object, ...] = ()
        self._number = 0
        self._has_failed = False
        self._adoption: Generator[None, None, None] | None = None
        self.is_full = False
        self.has_orphans = False

    def open(self, address: str, holder: str) -> None:
        """Make the directory, for a holder of a ledger.

        Raises:
            ConfigurationError: it cannot be used.
        """
        make_directory(self._directory)
        self._address = address
        self._mine = LetterFile(self._directory, holder)
        self.has_orphans = True

    # What this process has to tell.

    def save(
        self, leases: Sequence[Lease], errands: Iterable[Errand], usage: UsageQueue, clock: Clock
    ) -> None:
        """Write down all that the ledger would have to be told if this process ended now."""
        now = clock.time()
        partings = _partings(leases, clock.now_ns(), now)
        told = tuple(errands)
        try:
            if self._mine is None or not (partings or told or len(usage) or self.is_full):
                return
            self._write(self._mine, Letter(self._address, now, partings, told), usage)
        except OSError as error:
            self._complain(error)
        except Exception:
            _log.exception("the outbox failed")
        else:
            self._has_failed = False

    def _write(self, mine: LetterFile, letter: Letter, usage: UsageQueue) -> None:
        if not self.is_full:
            if len(stems(self._directory)) >= MAX_LETTERS:
                raise OSError(0, f"it holds {MAX_LETTERS} letters")
            if not mine.lock.take():
                raise OSError(0, "another process is looking through it")
        content = (letter.partings, letter.errands)
        if not self.is_full or content != self._last:
            mine.write(letter)
            self._last = content
            self.is_full = True
        rows = usage.since(self._number)
        if rows:
            mine.append(rows)
            self._number = rows[-1].number

    def _complain(self, error: OSError) -> None:
        """Say it once, until it works again."""
        if not self._has_failed:
            self._has_failed = True
            _log.error(
                "the outbox %s cannot be written to (%s): if this process ends before its ledger "
                "is back, what it used meanwhile is lost",
                self._directory, error.strerror,
            )  # fmt: skip

    def clear(self) -> None:
        """The ledger has been told; others may have died while it was away."""
        if self._mine is not None and self.is_full:
            try:
                self._mine.clear()
            except OSError as error:  # what is told again counts once
                self._complain(error)
            self.is_full = False
            self.has_orphans = True

    def close(self) -> None:
        """Leave what is there to others."""
        if self._adoption is not None:
            self._adoption.close()
        if self._mine is None:
            return
        try:
            if self.is_full:
                self._mine.lock.let_go()
            else:
                self._mine.lock.remove()
        except OSError as error:
            self._complain(error)
        self._mine = None

    # What others had to tell.

    def adopt_first(self, ledger: Ledger, ttl_ms: int, clock: Clock) -> None:
        """Book for the dead for a moment, on opening; what is left is done bit by bit."""
        until_ns = monotonic_ns() + _ADOPTION_NS
        try:
            while self.has_orphans and monotonic_ns() < until_ns:
                self.adopt(ledger, ttl_ms, clock.time())
        except LedgerUnavailable as error:
            _log.warning("what others left in the outbox is booked later: %s", error)

    def adopt(self, ledger: Ledger, ttl_ms: int, now: float) -> None:
        """Do a bit of what there is to do for the dead, until there are no orphans.

        Raises:
            LedgerUnavailable: call it again later.
        """
        if self._adoption is None:
            self._adoption = self._adopt(ledger, ttl_ms, now)
        try:
            next(self._adoption)
        except StopIteration:
            self._adoption = None
            self.has_orphans = False
        except BaseException:
            self._adoption = None
            raise

    def _adopt(self, ledger: Ledger, ttl_ms: int, now: float) -> Generator[None, None, None]:
        try:
            found = stems(self._directory)
        except OSError as error:
            self._complain(error)
            return
        for stem in found[:MAX_LETTERS]:
            file = LetterFile(self._directory, stem)
            try:
                if file.lock.take():
                    with closing(self._take_up(file, ledger, ttl_ms, now)) as steps:
                        yield from steps
            except LedgerUnavailable:
                raise
            except Exception as error:
                self._set_aside(file, error)
            finally:
                file.lock.let_go()

    def _set_aside(self, file: LetterFile, error: Exception) -> None:
        path = file.path(".json")
        if isinstance(error, OSError):
            _log.error("%s cannot be read (%s): see to it, then connect again", path, error)
            return
        try:
            file.set_aside()
        except OSError as second:
            self._complain(second)
        _log.error(
            "%s cannot be booked (%s), and is kept as %s.broken: what it says was used by a "
            "process that died, and is missing in the ledger; when you have seen to it, delete it",
            path, error, path.name,
        )  # fmt: skip

    def _take_up(
        self, file: LetterFile, ledger: Ledger, ttl_ms: int, now: float
    ) -> Generator[None, None, None]:
        letter = file.read()
        if letter is None:  # it had nothing left to tell
            file.clear()
            file.lock.remove()
            return
        if letter.address != self._address:
            return
        lost: list[Parting] = []
        partings = iter(letter.partings)
        while batch := list(islice(partings, _BATCH)):
            lost += _tell(batch, ledger, ttl_ms, now)
            yield
        age_seconds = now - letter.written
        for errand in letter.errands if age_seconds < FORGOTTEN_SECONDS else ():
            errand.run(ledger)
            yield
        for rows in file.rows():
            ledger.record(rows)
            yield
        if lost and age_seconds < TOMBSTONE_SECONDS:
            _log.warning(
                "%s says what was used of %s, which the ledger knows nothing of (any more): it is "
                "booked if that is defined again within a day, and then connected to",
                file.path(".json"), ", ".join(sorted({each.node for each in lost}))[:200],
            )  # fmt: skip
            return
        file.clear()
        file.lock.remove()
        _log.info("what a process that died had used is booked: %d payers", len(letter.partings))


def _tell(partings: Sequence[Parting], ledger: Ledger, ttl_ms: int, now: float) -> list[Parting]:
    """Have these counted; returns those of which the ledger does not know the node."""
    old = [
        each
        for each in partings
        if each.epoch > 1 + each.is_asked and now - each.answered > FORGOTTEN_SECONDS
    ]
    forgotten: set[Parting] = set()
    if old:
        answers = ledger.sync([each.question(ttl_ms) for each in old])
        pairs = zip(old, answers, strict=True)
        forgotten = {each for each, answer in pairs if answer.outcome in ("ok", "recovering")}
    last = [each.anew() if each in forgotten else each for each in partings]
    claims = [(each, claim) for each in last for claim in each.claims(ttl_ms)]
    grants = ledger.sync([claim for _each, claim in claims])
    told = zip(claims, grants, strict=True)
    return [each for (each, _claim), grant in told if grant.outcome == "undefined"]


def _partings(leases: Sequence[Lease], now_ns: int, now: float) -> tuple[Parting, ...]:
    found: list[Parting] = []
    for at in range(0, len(leases), _BATCH):  # calls go on in between
        try:
            acquire()
            found += [
                parting
                for lease in leases[at : at + _BATCH]
                if (parting := make_parting(lease, now_ns, now)) is not None
            ]
        finally:
            release()
    return tuple(found)
