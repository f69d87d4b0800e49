"""`budgetware usage`: what was used in a time, by whom and for what.

Not here: adding it up (`budgetware.reports`).
"""

import time
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from budgetware.kernel.dims import check_name
from budgetware.reports.usage import Bucket

from ..failures import MISUSED, Failure, misuse
from ..moments import parse_moment
from ..options import JsonOption
from ..places import Place, located
from ..sources import Source, open_source
from ..sources.source import Question
from ..tables import console, print_json
from ..usage_rows import UsageRows, as_csv, has_usage
from ..usage_tables import print_usage


class By(StrEnum):
    """What usage can be grouped by."""

    PRINCIPAL = "principal"
    MODEL = "model"
    PROVIDER = "provider"
    NAME = "name"
    TASK = "task"
    KIND = "kind"
    OUTCOME = "outcome"
    DAY = "day"
    HOUR = "hour"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(located(usage))


def usage(
    place: Place,
    *,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="How long ago, a day, or RFC 3339; UTC.")
    ] = "7d",
    until: Annotated[str, typer.Option(metavar="TIME", help="The same.")] = "now",
    by: Annotated[
        list[By] | None, typer.Option(help="Group by it; may be given several times.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option(metavar="PRINCIPAL", help="It and all below it; default: all.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Print at most so many rows.")
    ] = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, as RFC 4180 has it.")] = False,
) -> None:
    """Show what was used, by day, or by what --by says; the dearest first."""
    if json and csv:
        raise Failure("--json contradicts --csv: give one", MISUSED)
    if json and limit is not None:
        raise Failure("--limit is for tables and CSV: --json prints the whole report", MISUSED)
    words = tuple(dict.fromkeys(each.value for each in by or ()))
    question = _question(since, until, words, principal)
    with closing(open_source(place, "read")) as source:
        report = source.report(question)
        if principal is not None and not has_usage(report):
            _require_known(source, principal)
    if json:
        print_json(report.to_dict())
        return
    found = UsageRows.of(report, words)
    if csv:
        kept = replace(found, rows=found.rows[:limit])
        typer.echo(as_csv(kept).encode(), nl=False)
    else:
        print_usage(console(), report, found, limit)


def _require_known(source: Source, principal: str) -> None:
    """Raise `Failure` for a principal that nobody knows."""
    if source.resource_usage(principal) is None:
        raise Failure(
            f"unknown principal {principal!r} in {source.shown}: it has no quota, and used nothing "
            "in this time: check its name, or look further back with --since"
        )


def _question(since: str, until: str, by: tuple[str, ...], principal: str | None) -> Question:
    """Check what was asked; raises `Failure`."""
    now = time.time()
    with misuse():
        if principal is not None:
            check_name("principal", principal)
        start, end = parse_moment("--since", since, now), parse_moment("--until", until, now)
    if end <= start:
        raise Failure(f"--until {until} is not after --since {since}", MISUSED)
    bucket: Bucket = "hour" if "hour" in by and "day" not in by else "day"
    # what is left out is the server's or the ledger's own now
    return Question(start, None if until == "now" else end, principal, by, bucket)
