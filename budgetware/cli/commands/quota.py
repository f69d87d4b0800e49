"""`budgetware quota`: what a principal may use and has used, and changing it.

Not here: what is enforced (`budgetware.principals`).
"""

from contextlib import closing
from typing import Annotated, Any

import typer

from budgetware.formats import amount_text, bytes_text, duration_text
from budgetware.kernel.dims import check_name

from ..columns import Rows, drawn, long, number, word
from ..failures import MISUSED, Failure, complain, misuse
from ..grammar import period_text
from ..options import Enforcement, JsonOption
from ..places import Place, located
from ..quota_changes import QuotaChange, dims_in_use
from ..sources import Source, open_source
from ..tables import bar, console, is_ascii, print_json, say, share_of

WINDOWS = {"capacity": "in all", "concurrency": "at once"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Quotas of principals: show and set them.")
    group.command("show")(located(show_quotas))
    group.command("set")(located(set_quotas))
    app.add_typer(group, name="quota")


def show_quotas(
    place: Place,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL")],
    *,
    json: JsonOption = False,
) -> None:
    """Show what a principal may use, and what it has used."""
    with misuse():
        check_name("principal", principal)
    with closing(open_source(place, "read")) as source:
        usage = _usage(source, principal)
    _show(usage, as_json=json)


def set_quotas(
    place: Place,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL")],
    limits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIM=LIMIT",
            help="VALUE/PERIOD is a rate (second to year, or 30s), VALUE a capacity, 'VALUE slots' "
            "a concurrency: tokens=1M/day usd=5/month memory=256MiB cpu=50%. A burst: "
            "tokens='1M/day max 2M'.",
        ),
    ] = None,
    *,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="DIM", help="Lift its quota.")
    ] = None,
    exempt: Annotated[
        bool | None,
        typer.Option("--exempt/--no-exempt", help="Refused by no quota, but counted; or not."),
    ] = None,
    inherit_exempt: Annotated[
        bool, typer.Option("--inherit-exempt", help="Exempt if its parent is.")
    ] = False,
    parent: Annotated[
        str | None, typer.Option(metavar="PRINCIPAL", help="Of a new one: whose quotas count, too.")
    ] = None,
    enforcement: Annotated[
        Enforcement | None, typer.Option(help="Of the limits given here; default: reject.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Set quotas of a principal; what is not named stays as it is.

    Other processes on the same ledger hear of it within about a second.
    """
    if exempt is not None and inherit_exempt:
        raise Failure("--inherit-exempt contradicts --exempt and --no-exempt: give one", MISUSED)
    with misuse():
        change = QuotaChange.read(
            principal,
            limits or (),
            removed=remove or (),
            enforcement=None if enforcement is None else enforcement.value,
            parent=parent,
            exempt="inherit" if inherit_exempt else exempt,
        )
    with closing(open_source(place, "change")) as source:
        unused = frozenset[str]() if json else change.own_dims() - dims_in_use(source)
        source.put_principal(change.of(source.principal(principal)))
        usage = _usage(source, principal)
    for dim in sorted(unused):
        complain(f"note: {dim} is a new dimension: nothing counts it until a program charges {dim}")
    _show(usage, as_json=json)


def _usage(source: Source, principal: str) -> dict[str, Any]:
    """The facts of a principal, or a failure that says what was probably meant."""
    usage = source.resource_usage(principal)
    if usage is None:
        raise Failure(
            f"unknown principal {principal!r} in {source.shown}: it has no quota and has used "
            f"nothing; budgetware quota set {principal} tokens=1M/day gives it one"
        )
    return usage


def _show(usage: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(usage)
        return
    out = console()
    quotas: dict[str, dict[str, Any]] = usage.get("quotas", {})
    shown = Rows(
        (
            long("quota"),
            number("limit"),
            word(""),
            number("used"),
            number("reserved", 1),
            number("remaining"),
            drawn(),
        )
    )
    for dim, row in quotas.items():
        share = share_of(row.get("used"), row.get("limit"))
        shown.add(
            dim,
            amount_text(dim, row.get("limit")),
            _window(row),
            *(amount_text(dim, row.get(key)) for key in ("used", "reserved", "remaining")),
            "" if share is None else bar(share, ascii_only=is_ascii(out)),
        )
    say(out, f"principal {usage['principal']}")
    if quotas:
        shown.print(out)
    else:
        say(out, f"no quotas: budgetware quota set {usage['principal']} tokens=1M/day sets one")
    say(out, *_facts(usage))


def _window(row: dict[str, Any]) -> str:
    kind, period = str(row.get("type")), row.get("window")
    if kind == "rate":
        return f"per {period_text(period)}"
    return WINDOWS.get(kind, "")


def _facts(usage: dict[str, Any]) -> list[str]:
    cpu, cpu_limit = usage.get("cpu_fuel_consumed_total"), usage.get("cpu_fuel_per_sec_limit")
    limit = usage.get("memory_bytes_limit_per_instance")
    now, peak = (usage.get(f"memory_bytes_{which}_total") for which in ("current", "peak"))
    allowed = "" if cpu_limit is None else f", at most {cpu_limit / 10_000:g}% of a CPU"
    most = "" if limit is None else f", at most {bytes_text(limit)}"
    return [
        f"exempt: {'yes: counted, and refused by no quota' if usage.get('exempt') else 'no'}",
        f"CPU time: {'unknown' if cpu is None else duration_text(cpu / 1_000_000)}{allowed}",
        f"memory: {_size(now)} now, {_size(peak)} at most so far{most}",
    ]


def _size(n: int | None) -> str:
    return "unknown" if n is None else bytes_text(n)
