"""`budgetware resource`: shared quotas, listed, shown, defined, changed and taken out.

Not here: what is enforced (`budgetware.resources`).
"""

import sys
from contextlib import closing
from typing import Annotated

import typer

from budgetware.formats import amount_text, count_text, duration_text
from budgetware.kernel.dims import check_name

from ..columns import Rows, drawn, long, number, word
from ..failures import MISUSED, Failure, misuse
from ..grammar import limit_text
from ..options import Enforcement, JsonOption
from ..places import Place, located
from ..resource_changes import definition_of, edits_of
from ..sources import open_source
from ..tables import (
    Table,
    bar,
    console,
    is_ascii,
    part_of,
    plural,
    print_json,
    say,
    share_used,
)

NAME = Annotated[str, typer.Argument(metavar="NAME")]
EXPECTED = Annotated[
    int | None,
    typer.Option(
        "--expected-revision",
        metavar="N",
        min=1,
        help="Only if it is still at this revision, the one that show prints.",
    ),
]
LIMIT_HELP = "VALUE/PERIOD (90k/minute), VALUE in all (50M), or 'VALUE slots'."
MAX_HELP = "The burst of a rate: the most that can be there at once; default: VALUE."
WAIT_HELP = "The longest wait of a throttled call, as 30s; 0: none."
ENFORCEMENT = Annotated[
    Enforcement | None, typer.Option(help="What happens when there is not enough.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Shared resources: show and change them.")
    for name, command in (
        ("list", located(list_resources)),
        ("show", located(show_resource)),
        ("define", located(define_resource)),
        ("update", located(update_resource)),
        ("delete", located(delete_resource)),
    ):
        group.command(name)(command)
    app.add_typer(group, name="resource")


def list_resources(place: Place, *, json: JsonOption = False) -> None:
    """List shared resources, and what is left of them."""
    with closing(open_source(place, "read")) as source:
        found, shown = source.resources(), source.shown
    if json:
        print_json(found)
        return
    out = console()
    if not found:
        say(out, f"no resources in {shown}: budgetware resource define NAME --limit 90k/minute")
        return
    rows = Rows(
        (
            long("resource"),
            long("limit"),
            number("used", 2),
            number("held", 3),
            number("left"),
            drawn(),
            number("waiting", 1),
            word("if short", 4),
            number("rev", 5),
        )
    )
    for row in found:
        _add(rows, row, ascii_only=is_ascii(out))
    rows.print(out)


def _add(rows: Rows, row: Table, *, ascii_only: bool) -> None:
    dim, balance = row.get("dim"), part_of(row, "balance")
    share = share_used(balance)
    rows.add(
        row["name"],
        limit_text(part_of(row, "limit"), dim),
        *(amount_text(dim, balance.get(key)) for key in ("spent", "reserved", "remaining")),
        "" if share is None else bar(share, ascii_only=ascii_only),
        count_text(int(row.get("waiting") or 0)),
        row.get("enforcement"),
        row.get("revision"),
    )


def show_resource(place: Place, name: NAME, *, json: JsonOption = False) -> None:
    """Show one resource."""
    with misuse():
        check_name("resource", name)
    with closing(open_source(place, "read")) as source:
        row = source.resource(name)
    _show(row, as_json=json)


def define_resource(
    place: Place,
    name: NAME,
    *,
    limit: Annotated[str, typer.Option(metavar="LIMIT", help=LIMIT_HELP)],
    max: Annotated[str | None, typer.Option(metavar="VALUE", help=MAX_HELP)] = None,
    dim: Annotated[
        str | None, typer.Option(metavar="DIM", help="The dimension it counts, as tokens or usd.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="NAME", help="A resource that is charged with it.")
    ] = None,
    enforcement: ENFORCEMENT = None,
    max_wait: Annotated[str | None, typer.Option(metavar="TIME", help=WAIT_HELP)] = None,
    unit: Annotated[str | None, typer.Option(metavar="WORD", help="For one, as token.")] = None,
    units: Annotated[str | None, typer.Option(metavar="WORD", help="For many, as tokens.")] = None,
    json: JsonOption = False,
) -> None:
    """Add a shared resource.

    Calls may draw on it at once; those of other processes on the same ledger within about a second.
    """
    with misuse():
        resource = definition_of(
            name,
            limit,
            burst=max,
            dim=dim,
            parent=parent,
            enforcement=None if enforcement is None else enforcement.value,
            max_wait=max_wait,
            unit=unit,
            units=units,
        )
    with closing(open_source(place, "change")) as source:
        row = source.define(resource)
    _show(row, as_json=json)


def update_resource(
    place: Place,
    name: NAME,
    *,
    expected_revision: EXPECTED = None,
    limit: Annotated[str | None, typer.Option(metavar="LIMIT", help=LIMIT_HELP)] = None,
    max: Annotated[str | None, typer.Option(metavar="VALUE", help=MAX_HELP)] = None,
    enforcement: ENFORCEMENT = None,
    max_wait: Annotated[str | None, typer.Option(metavar="TIME", help=WAIT_HELP)] = None,
    no_max_wait: Annotated[
        bool, typer.Option("--no-max-wait", help="Let calls wait as long as it takes.")
    ] = False,
    unit: Annotated[str | None, typer.Option(metavar="WORD", help="For one, as token.")] = None,
    units: Annotated[str | None, typer.Option(metavar="WORD", help="For many, as tokens.")] = None,
    json: JsonOption = False,
) -> None:
    """Change a resource; what was used stays used.

    Other processes on the same ledger hear of it within about a second.

    Its kind, dimension and parent cannot change: delete it, and define it again.
    """
    if no_max_wait and max_wait is not None:
        raise Failure("--no-max-wait contradicts --max-wait: give one", MISUSED)
    with misuse():
        edits = edits_of(
            name,
            limit,
            burst=max,
            enforcement=None if enforcement is None else enforcement.value,
            max_wait="none" if no_max_wait else max_wait,
            unit=unit,
            units=units,
        )
    with closing(open_source(place, "change")) as source:
        changes = edits.of(source.resource(name))
        row = source.update(name, changes, expected_revision)
    _show(row, as_json=json)


def delete_resource(
    place: Place,
    name: NAME,
    *,
    expected_revision: EXPECTED = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a resource out: whoever waits for it, or draws on it later, is refused.

    Other processes on the same ledger hear of it within about a second.
    """
    with misuse():
        check_name("resource", name)
    with closing(open_source(place, "change")) as source:
        row = source.resource(name)
        if not yes and not _agrees(row):
            raise Failure(f"resource {name!r} was not deleted")
        source.delete(name, expected_revision)
    typer.echo(f"deleted resource {name}", err=True)


def _agrees(row: Table) -> bool:
    """Ask, where there is somebody to answer."""
    if not sys.stdin.isatty():
        raise Failure("nobody can be asked here: give --yes to delete it", MISUSED)
    waiting = int(row.get("waiting") or 0)
    also = f", for which {plural(waiting, 'call')} wait," if waiting else ""
    return typer.confirm(f"Delete resource {row['name']}{also} for all who use it?", err=True)


def _show(row: Table, *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    out = console()
    dim, balance = row.get("dim"), part_of(row, "balance")
    wait, paused = row.get("max_wait"), row.get("paused_seconds")
    say(out, f"resource {row['name']}, revision {row.get('revision')}")
    facts = (
        ("limit", limit_text(part_of(row, "limit"), dim)),
        ("counts", dim or row.get("units")),
        ("parent", row.get("parent")),
        ("when short", row.get("enforcement")),
        ("longest wait", duration_text(wait) if isinstance(wait, int | float) else wait),
        ("waiting", plural(int(row.get("waiting") or 0), "call")),
        *([("paused for", duration_text(paused))] if paused else []),
        ("used", amount_text(dim, balance.get("spent"))),
        ("held", amount_text(dim, balance.get("reserved"))),
        ("set aside", amount_text(dim, balance.get("granted"))),
        ("left", amount_text(dim, balance.get("remaining"))),
        ("debt", amount_text(dim, balance.get("overrun"))),
    )
    block = Rows([long(label) for label, _ in facts])
    block.add(*(value for _, value in facts))
    block.print_stacked(out)
