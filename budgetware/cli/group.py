"""The group of all commands: whatever ends it badly is told in one line.

Not here: what a command itself finds wrong (`failures`).
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, cast

import typer
from typer.core import TyperGroup

from .failures import FAILED, complain

# typer has it from click, or from a copy of click that it brings along
_ASKED_WRONGLY = cast(
    "type[Exception]",
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"),
)
_HELP_WAS_SHOWN = "NoArgsIsHelpError"
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_PLAINER = {"Value error, ": "", ": Input should": ": it should"}


class Commands(TyperGroup):
    """Commands whose failures are one line on stderr, and an exit code."""

    def main(self, *args: Any, **given: Any) -> Any:
        """Run a command; raises `SystemExit` with its exit code, unless not standalone."""
        is_standalone = given.get("standalone_mode", True)
        given["standalone_mode"] = False
        if not is_standalone:
            return super().main(*args, **given)
        try:
            code = super().main(*args, **given)
            if sys.stdout is not None:  # it is closed
                sys.stdout.flush()
        except _ASKED_WRONGLY as error:
            code = _tell_misuse(error)
        except typer.Abort:
            complain("aborted: nothing was changed")
            code = FAILED
        except OSError as error:
            if error.errno not in (errno.EPIPE, *_UNWRITABLE):
                raise
            code = _tell_output(error)
        sys.exit(code if isinstance(code, int) else 0)


def _tell_misuse(error: Any) -> int:
    """Say what is wrong with the arguments, and where it says what would be right."""
    if type(error).__name__ != _HELP_WAS_SHOWN:
        said = " ".join(error.format_message().split()).rstrip(".")
        for words, plainer in _PLAINER.items():
            said = said.replace(words, plainer)
        context = getattr(error, "ctx", None)
        command = "budgetware" if context is None else context.command_path
        complain(f"{said[:1].lower()}{said[1:]} (see {command} --help)")
    return int(error.exit_code)


def _tell_output(error: OSError) -> int:
    """Say that the output could not be written, unless its reader has gone."""
    if error.errno != errno.EPIPE:
        complain(f"the output cannot be written: {error.strerror}: give it another place")
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it has no number, or is closed
            number = stream.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # what is left in it fails no more
    return FAILED
