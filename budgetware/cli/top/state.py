"""What the screen shows, and what keys change of it. Pure. Not here: drawing it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SECTIONS = ("tasks", "resources", "principals", "activity")
SORTS: Mapping[str, tuple[str, ...]] = {
    "tasks": ("started", "used", "task"),
    "resources": ("waiting", "used", "resource"),
    "principals": ("calls", "refused", "used", "principal"),
    "activity": ("calls", "refused", "waited", "principal"),
}
"""By what the rows of a section can be sorted; the first is where it begins."""
HELP = (
    ("q", "quit"),
    ("1-4, tab", "tasks, resources, principals, activity (also t o w a)"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    ("p, space", "pause, and go on"),
    ("up down j k", "scroll by a row"),
    ("page up/down", "scroll by a page; home, end, g, G"),
    ("?, h", "this help; any key closes it"),
)
_JUMPS = {**dict(zip("1234", SECTIONS, strict=True)), **dict(zip("towa", SECTIONS, strict=True))}
_SCROLLS = {"up": -1, "k": -1, "down": 1, "j": 1}
_FAR = 1_000_000


@dataclass(frozen=True, slots=True)
class State:
    """What is shown.

    Attributes:
        sorts: by section, the place in `SORTS`.
        offset: how many rows are scrolled away; the drawing bounds it.
    """

    section: str = "tasks"
    sorts: Mapping[str, int] = field(default_factory=dict[str, int])
    is_reversed: bool = False
    is_paused: bool = False
    is_help: bool = False
    is_over: bool = False
    offset: int = 0

    @property
    def sort(self) -> str:
        """What the section is sorted by."""
        names = SORTS[self.section]
        return names[self.sorts.get(self.section, 0) % len(names)]

    def press(self, key: str, *, page: int, rows: int) -> "State":
        """Take a key.

        Args:
            page: how many rows fit on the screen.
            rows: how many there are.
        """
        if key in ("q", "Q"):
            return replace(self, is_over=True)
        if self.is_help:
            return replace(self, is_help=False)
        if key in ("?", "h"):
            return replace(self, is_help=True)
        if key in ("p", " "):
            return replace(self, is_paused=not self.is_paused)
        return self._moved(key, page, max(0, rows - page))

    def _moved(self, key: str, page: int, last: int) -> "State":
        section = _JUMPS.get(key) or self._beside(key)
        if section is not None:
            return replace(self, section=section, offset=0)
        if key == "s":
            place = self.sorts.get(self.section, 0) + 1
            return replace(self, sorts={**self.sorts, self.section: place}, offset=0)
        if key == "r":
            return replace(self, is_reversed=not self.is_reversed, offset=0)
        steps = {**_SCROLLS, "page_up": -page, "page_down": page, "home": -_FAR, "end": _FAR}
        step = {**steps, "g": -_FAR, "G": _FAR}.get(key, 0)
        at = min(self.offset, last)
        return replace(self, offset=min(last, max(0, at + step)))

    def _beside(self, key: str) -> str | None:
        step = {"tab": 1, "right": 1, "back_tab": -1, "left": -1}.get(key)
        if step is None:
            return None
        return SECTIONS[(SECTIONS.index(self.section) + step) % len(SECTIONS)]
