"""What is wrong with a manifest, where, and the one error that says it all.

Not here: what decides that something is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from ..errors import ManifestError
from ..kernel import dims
from .lines import Lines, Path

MAX_PROBLEMS = 100
_MAX_COMPARED = 200
_BARE = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        line: 1-based; None where it is about the file as a whole.
        key: dotted, as in `resources.browsers.limit`; empty where no key is concerned.
        message: what is wrong with the value; what would be right.
    """

    line: int | None
    key: str
    message: str

    def describe(self, file: str | None) -> str:
        """Return it as `file:line: key: message`, on one line that is safe to print."""
        where = shown_file(file) + ("" if self.line is None else f":{self.line}")
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class Problems:
    """A list of at most `MAX_PROBLEMS`; those above it are only counted."""

    __slots__ = ("_found", "_lines", "count")

    def __init__(self, lines: Lines | None = None) -> None:
        self._lines = lines or Lines()
        self._found: list[Problem] = []
        self.count = 0

    @property
    def is_full(self) -> bool:
        """Whether further ones are not kept."""
        return len(self._found) >= MAX_PROBLEMS

    def add(self, path: Path, message: str) -> None:
        """Add what is wrong with the value at a path."""
        self.put(Problem(self._lines.nearest(path), dotted(path), message))

    def put(self, problem: Problem) -> None:
        """Add one as it is."""
        self.count += 1
        if not self.is_full:
            self._found.append(problem)

    def listed(self) -> tuple[Problem, ...]:
        """Return them by line; the last says how many more there are."""
        found = sorted(self._found, key=lambda problem: problem.line or 0)
        if self.count > len(found):
            message = f"{self.count - len(found)} more problems; mend these first"
            found.append(Problem(None, "", message))
        return tuple(found)


def manifest_error(problems: Sequence[Problem], file: str | None) -> ManifestError:
    """Make the error that lists them, one per line; they are its `problems`, too."""
    message = "\n".join(problem.describe(file) for problem in problems)
    error = ManifestError(message, file=file, line=problems[0].line)
    error.__dict__["problems"] = tuple(problems)
    return error


def dotted(path: Path) -> str:
    """Return a path as TOML writes it; what is no bare key is shown in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part if _BARE.fullmatch(part) else dims.show(part)}"
    return text.removeprefix(".")


def shown_file(file: str | None) -> str:
    """Return the name of a file for a terminal."""
    if file is None:
        return "<manifest>"
    return file if file.isprintable() else repr(file)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return what was probably meant."""
    return dims.nearest(name[:128], islice(known, _MAX_COMPARED), cutoff)


def hint(name: str, known: Sequence[str]) -> str:
    """Return what to do instead of a name that is not among those known."""
    near = nearest(name, known)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known here: {', '.join(known[:20])}" if known else "there is none"
