"""On which line of a TOML text each key and each element of an array stands.

One pass over its tokens, because `tomllib` keeps no positions. Not here: what the text means, nor
whether it is TOML: a text that is not is followed as far as it can be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_DEPTH = 16
MAX_NUMBER = 1_000

Path: TypeAlias = tuple[str | int, ...]
"""Where something stands: names of keys, and indexes in arrays."""
_Step: TypeAlias = "Callable[[str, str], _Step | None]"

_TOKEN = re.compile(
    r"""
      (?P<space> [ \t]++ | \#[^\n]*+ )
    | (?P<newline> \n )
    | (?P<multi> \"{3} (?: [^"\\]++ | \\[\s\S] | "{1,2}(?!") )*+ "{3,5}
               | '{3} (?: [^']++ | '{1,2}(?!') )*+ '{3,5} )
    | (?P<quoted> (?!\"{3}) " (?: [^"\\\n]++ | \\[^\n] )*+ " | (?!'{3}) ' [^'\n]*+ ' )
    | (?P<mark> [\[\]{},=.] )
    | (?P<bare> [^\x00-\x20\x7f"'\[\]{},=.\#]++ )
    """,
    re.VERBOSE,
)
_VALUES = ("bare", "quoted", "multi")


@dataclass(slots=True)
class Lines:
    """The lines, 1-based, and what `tomllib` had better not be given.

    Attributes:
        of: the line of every path.
        too_deep: where something is nested in more than `MAX_DEPTH` levels.
        too_long: where a number has more than `MAX_NUMBER` digits.
    """

    of: dict[Path, int] = field(default_factory=dict[Path, int])
    too_deep: int | None = None
    too_long: int | None = None

    def nearest(self, path: Path) -> int | None:
        """Return the line of a path, or of the innermost thing around it that has one."""
        while path:
            if path in self.of:
                return self.of[path]
            path = path[:-1]
        return None


def find_lines(text: str) -> Lines:
    """Follow the text, in time proportional to its length."""
    scan = _Scan()
    step: _Step | None = scan.statement
    position = 0
    while step is not None and (piece := _TOKEN.match(text, position)) is not None:
        position = piece.end()
        kind = piece.lastgroup or ""
        if kind != "space":
            step = step(kind, piece[0])
        scan.line += piece[0].count("\n")
    return scan.lines


@dataclass(slots=True)
class _Open:
    """An array or an inline table that is not closed yet."""

    path: Path
    is_array: bool
    index: int = 0


class _Scan:
    """What was seen so far. A step takes a token and says which takes the next; None ends it."""

    __slots__ = ("at", "counts", "header_path", "is_list", "key", "line", "lines", "opened")

    def __init__(self) -> None:
        self.lines = Lines()
        self.line = 1
        self.header_path: Path = ()
        self.is_list = False
        self.key: list[str] = []
        self.at: Path = ()
        self.opened: list[_Open] = []
        self.counts: dict[Path, int] = {}

    def statement(self, kind: str, piece: str) -> _Step | None:
        self.key = []
        if kind == "newline":
            return self.statement
        if piece == "[":
            self.is_list = False
            return self.header
        return self.key_part(kind, piece)

    def header(self, kind: str, piece: str) -> _Step | None:
        if piece == "[" and not self.key and not self.is_list:
            self.is_list = True
            return self.header
        if piece == "]" and self.key:
            return self._enter()
        return self._part(kind, piece, self.header)

    def key_part(self, kind: str, piece: str) -> _Step | None:
        if piece == "=" and self.key:
            return self._assign()
        if self.opened and not self.key:
            if piece == "}":
                return self._close()
            if kind == "newline":
                return self.key_part
        return self._part(kind, piece, self.key_part)

    def value(self, kind: str, piece: str) -> _Step | None:
        container = self.opened[-1] if self.opened else None
        if container is not None and container.is_array:
            if kind == "newline":
                return self.value
            if piece == "]":
                return self._close()
            self.at = (*container.path, container.index)
            self.lines.of[self.at] = self.line
        if piece in ("[", "{"):
            return self._open(is_array=piece == "[")
        return self.after(kind, piece) if kind in _VALUES else None

    def after(self, kind: str, piece: str) -> _Step | None:
        if kind == "bare" and len(piece) > MAX_NUMBER:
            self.lines.too_long = self.line
            return None
        if kind in _VALUES or piece == ".":
            return self.after  # 1.5 and a date with a time are several tokens
        if not self.opened:
            return self.statement if kind == "newline" else None
        if piece in ("]", "}"):
            return self._close()
        if piece == ",":
            return self._next()
        return self.after if kind == "newline" else None

    def rest_of_line(self, kind: str, piece: str) -> _Step | None:
        if kind == "newline":
            return self.statement
        return self.rest_of_line if piece == "]" else None

    def _part(self, kind: str, piece: str, then: _Step) -> _Step | None:
        if piece == ".":
            return then
        text = piece if kind == "bare" else _unquoted(piece) if kind == "quoted" else None
        if text is None:
            return None
        self.key.append(text)
        return then if self._fits(len(self.key)) else None

    def _enter(self) -> _Step | None:
        """A header was read: `[a.b]`, or `[[a.b]]`, whose tables are counted."""
        path: Path = ()
        for part in self.key[:-1]:
            path = (*path, part)
            self.lines.of.setdefault(path, self.line)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        path = (*path, self.key[-1])
        if self.is_list:
            self.lines.of.setdefault(path, self.line)
            count = self.counts.get(path, 0)
            self.counts[path] = count + 1
            path = (*path, count)
        self.lines.of[path] = self.line
        self.header_path = path
        return self.rest_of_line if self._fits(len(path)) else None

    def _assign(self) -> _Step | None:
        path = self.opened[-1].path if self.opened else self.header_path
        if not self._fits(len(path) + len(self.key)):
            return None
        for part in self.key[:-1]:
            path = (*path, part)
            self.lines.of.setdefault(path, self.line)
        self.at = (*path, self.key[-1])
        self.lines.of[self.at] = self.line
        return self.value

    def _open(self, *, is_array: bool) -> _Step | None:
        self.opened.append(_Open(self.at, is_array))
        self.key = []
        if not self._fits(len(self.at) + 1):
            return None
        return self.value if is_array else self.key_part

    def _next(self) -> _Step:
        container = self.opened[-1]
        container.index += 1
        self.key = []
        return self.value if container.is_array else self.key_part

    def _close(self) -> _Step:
        self.opened.pop()
        return self.after

    def _fits(self, depth: int) -> bool:
        if depth <= MAX_DEPTH:
            return True
        self.lines.too_deep = self.line
        return False


def _unquoted(piece: str) -> str | None:
    if piece[0] == "'" or "\\" not in piece:
        return piece[1:-1]
    try:
        text: str = tomllib.loads(f"key = {piece}")["key"]
    except tomllib.TOMLDecodeError:
        return None
    return text
