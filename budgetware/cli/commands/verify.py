"""`budgetware verify`: whether the balances of a ledger are what its journal adds up to.

Not here: how a ledger compares them (`budgetware.ledgers`).
"""

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from budgetware.errors import BudgetwareError, ConfigurationError
from budgetware.ledgers.addresses import ledger_at
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Difference, NodeState
from budgetware.shared_principals import PRINCIPAL

from ..columns import Rows, long, number

WRONG = 1
MISUSED = 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    ledger: Annotated[
        str, typer.Argument(help="Its address, as sqlite:///budgetware.db or redis://localhost/0.")
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Replay the journal of a ledger against its balances.

    The exit code is 0 where they agree, 1 where they differ or the ledger cannot be read, 2 where
    there is no such ledger. It may be in use meanwhile.
    """
    store = _store(ledger)
    try:
        store.open()
        try:
            states, differences = store.read(), store.verify()
        finally:
            store.close()
    except BudgetwareError as error:
        if json:
            typer.echo(jsonlib.dumps({"ledger": store.address, "ok": False, "error": str(error)}))
        else:
            typer.echo(f"budgetware: {error}", err=True)
        raise typer.Exit(WRONG) from None
    if json:
        _print_json(store.address, states, differences)
    else:
        _print(store.address, states, differences)
    if differences:
        raise typer.Exit(WRONG)


def _store(address: str) -> Ledger:
    """The ledger of an address; one that is not there yet is not made."""
    try:
        store = ledger_at(address)
        if store is None:
            raise ConfigurationError("memory:// is the memory of another process: nothing to read")
        path = address.partition(":///")[2]
        if address.startswith("sqlite:") and not Path(path).exists():
            raise ConfigurationError(f"there is no file {path!r}")
    except ConfigurationError as error:
        typer.echo(f"budgetware: {error}", err=True)
        raise typer.Exit(MISUSED) from None
    return store


def _print_json(
    address: str, states: Sequence[NodeState], differences: Sequence[Difference]
) -> None:
    document = {
        "ledger": address,
        "ok": not differences,
        "nodes": len(states),
        "differences": [asdict(difference) for difference in differences],
    }
    typer.echo(jsonlib.dumps(document, indent=2))


def _print(address: str, states: Sequence[NodeState], differences: Sequence[Difference]) -> None:
    console = Console(highlight=False)
    rows = Rows(
        (
            long("node"),
            number("limit"),
            number("used"),
            number("leased", 2),
            number("stranded", 3),
            number("debt", 1),
            number("holders", 4),
        )
    )
    for state in states:
        if state.node.startswith(PRINCIPAL) and state.node.count("/") == 1:
            continue  # it has no balance of its own
        numbers = (
            state.terms.value, state.used, state.out, state.stranded, state.debt, state.holders
        )  # fmt: skip
        rows.add(state.node, *(f"{number:,}" for number in numbers))
    if states:
        rows.print(console)
    for found in differences:
        console.print(
            Text(
                f"{found.node}: {found.what} is {found.balance:,}, the journal says "
                f"{found.journal:,}"
            )
        )
    count = f"{len(states)} node{'' if len(states) == 1 else 's'}"
    verdict = "balances and journal agree" if not differences else "they differ"
    console.print(Text(f"{address}: {count}, {verdict}"))
