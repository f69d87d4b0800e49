"""How a command fails: one line on stderr that says what to do, and an exit code.

Not here: what fails.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress

import typer

from budgetware.errors import BudgetwareError, ConfigurationError, InvalidAmount, ManifestError
from budgetware.formats import visible

FAILED = 1
"""Refused, or failed: who is asked for is unknown, a revision is wrong, the ledger is away."""
MISUSED = 2
"""Asked for wrongly: nothing was looked at, nothing has changed."""


class Failure(Exception):
    """What ends a command: a sentence, and the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def told() -> Generator[None]:
    """Turn what goes wrong in the block into a line on stderr and an exit code."""
    try:
        yield
    except (Failure, BudgetwareError) as error:
        complain(str(error))
        raise typer.Exit(_code_of(error)) from None


@contextmanager
def misuse() -> Generator[None]:
    """Read arguments in the block: what is wrong with them was asked for wrongly."""
    try:
        yield
    except ConfigurationError as error:
        raise Failure(str(error), MISUSED) from None


def complain(message: str) -> None:
    """Print one line on stderr."""
    first, *more = message.splitlines() or [""]
    rest = f" (and {len(more)} more: see budgetware check)" if more else ""
    with suppress(OSError):  # there is nowhere else to say so
        typer.echo(f"budgetware: {visible(first)}{rest}", err=True)


def _code_of(error: Exception) -> int:
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, ManifestError):
        return FAILED if error.__dict__.get("problems") else MISUSED
    return MISUSED if isinstance(error, InvalidAmount) else FAILED
