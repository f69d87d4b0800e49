"""What is seen on stderr while the agent works: a live table, or a line for each call."""

from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live

from budgetware import TaskBudget

from .activity import Activity
from .job import Screen
from .journal import Row
from .tables import balances_table, calls_table, running_table, tail

LAST_ROWS = 8
REFRESHES_PER_SECOND = 5


class PlainScreen:
    """One line for each call that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def watch(self, activity: Activity, budget: Callable[[], TaskBudget | None]) -> None:
        """Lines need nothing but the rows."""

    def show(self, row: Row) -> None:
        """Print the call."""
        line = f"{row.number:>4}  {row.name:<9}  {tail(row.document, 28):<28}  {row.decision}"
        if row.charged is not None:
            asked = "asked" if row.is_refused else "held"
            line = f"{line:<59}{asked} {row.reserved}, charged {row.charged}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """A table that is drawn anew several times a second, by a thread of rich's."""

    def __init__(self, keep: Mapping[str, object]) -> None:
        self._keep = keep
        self._activity = Activity()
        self._budget: Callable[[], TaskBudget | None] = lambda: None
        self._last: deque[Row] = deque(maxlen=LAST_ROWS)

    def watch(self, activity: Activity, budget: Callable[[], TaskBudget | None]) -> None:
        """Draw these from now on."""
        self._activity, self._budget = activity, budget

    def show(self, row: Row) -> None:
        """Draw the call among the last ones."""
        self._last.append(row)

    def draw(self) -> RenderableType:
        """Make the picture of this moment."""
        parts: list[RenderableType] = [calls_table(list(self._last))]
        parts.append(running_table(self._activity.running()))
        budget = self._budget()
        if budget is not None:
            parts.append(balances_table(budget.snapshot().to_dict(), self._keep))
        return Group(*parts)


@contextmanager
def open_screen(console: Console, keep: Mapping[str, object]) -> Generator[Screen]:
    """Open the screen that fits: live on a terminal, else lines."""
    if not console.is_terminal:
        yield PlainScreen(console)
        return
    screen = LiveScreen(keep)
    with Live(
        get_renderable=screen.draw,
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
    ):
        yield screen
