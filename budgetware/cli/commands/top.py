"""`budgetware top`: what goes on now: tasks, resources, principals, calls.

Not here: the live screen (`budgetware.cli.top`).
"""

import os
import sys
from contextlib import closing
from typing import Annotated

import typer

from ..failures import MISUSED, Failure
from ..options import JsonOption
from ..places import Place, located
from ..sources import open_source
from ..tables import console, print_json
from ..top.drawing import print_once
from ..top.screen import fetch, run_screen

WINDOW_SECONDS = 10.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(located(top))


def top(
    place: Place,
    *,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=3_600, help="How often to look.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once, as text.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what goes on now: tasks, resources and who waits, principals, calls and refusals.

    Live on a terminal, where ? lists the keys; else once. Over a ledger, tasks are those with
    shared=True; ask a program's server with --url for its own.
    """
    if json and not once and _is_terminal():
        raise Failure("--json is of one moment: give --once with it", MISUSED)
    out = console()
    with closing(open_source(place, "read")) as source:
        if once or json or not _is_terminal():
            overview = fetch(lambda: source.overview(WINDOW_SECONDS))
            if json:
                print_json(overview)
            else:
                print_once(out, overview)
            return
        run_screen(out, lambda: source.overview(WINDOW_SECONDS), interval)


def _is_terminal() -> bool:
    """Whether there is a screen to draw on, and a keyboard."""
    is_dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    return sys.stdin.isatty() and sys.stdout.isatty() and not is_dumb
