"""The screen while it runs: what it shows is fetched in a thread, so that keys never wait for it.

Not here: what is drawn (`drawing`), and what keys do (`state`).
"""

import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live

from budgetware.errors import BudgetwareError

from ..failures import Failure
from .drawing import draw, page_rows, shown_section
from .keys import Keyboard, keyboard
from .sections import first_section, section_of
from .state import SECTIONS, SORTS, State

Overview = Mapping[str, Any]
_TICK_SECONDS = 0.1
_LAST_SECONDS = 2.0
_TERMINATED = 128 + 15


def fetch(ask: Callable[[], Overview]) -> Overview:
    """Ask for an overview, and see that it can be shown.

    Raises:
        Failure, BudgetwareError: it cannot be had, or not be read.
    """
    found = ask()
    try:
        for name in SECTIONS:
            section_of(name, found, SORTS[name][0])
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise Failure(
            f"what goes on there cannot be read by this version ({error!r:.200}): use that of the "
            "server"
        ) from None
    return found


class Feed:
    """A thread that keeps an overview up to date."""

    def __init__(self, ask: Callable[[], Overview], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._over = Event()
        self._thread = Thread(target=self._run, name="budgetware-top", daemon=True)
        self.latest = fetch(ask)
        self.error = ""

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self.latest = fetch(self._ask)
                self.error = ""
            except (Failure, BudgetwareError) as error:
                self.error = str(error)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(_LAST_SECONDS)


def run_screen(out: Console, ask: Callable[[], Overview], seconds: float) -> None:
    """Show what goes on until `q` or Ctrl-C; the terminal is as it was afterwards.

    Raises:
        Failure, BudgetwareError: there is nothing to show from the start.
    """
    with _ended_by_signal(), Feed(ask, seconds) as feed:
        try:
            with (
                keyboard() as keys,
                Live(console=out, screen=True, auto_refresh=False, redirect_stdout=False) as live,
            ):
                _show(out, live, keys, feed)
        except (KeyboardInterrupt, EOFError):
            return


def _show(out: Console, live: Live, keys: Keyboard, feed: Feed) -> None:
    overview = feed.latest
    state = State(section=first_section(overview))
    drawn: object = None
    while not state.is_over:
        if not state.is_paused:
            overview = feed.latest
        showing = (id(overview), state, feed.error, out.size)
        if showing != drawn:
            live.update(draw(overview, state, out, feed.error), refresh=True)
            drawn = showing
        for key in keys.wait(_TICK_SECONDS):
            rows = len(shown_section(overview, state, out).rows)
            state = state.press(key, page=page_rows(out.size.height), rows=rows)


@contextmanager
def _ended_by_signal() -> Generator[None]:
    """Have SIGTERM leave by way of what puts the terminal right."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
