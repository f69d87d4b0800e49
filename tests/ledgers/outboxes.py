"""Services with outboxes, and what is in these; shared by their tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from budgetware import Capacity, QuotaService, Resource, connect, reserve_nowait
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Claim, NodeState
from tests.ledgers.away_ledgers import AwayLedger

NODE = "r/org"


def open_with(ledger: Ledger | AwayLedger, box: Path, **options: Any) -> QuotaService:
    options.setdefault("on_ledger_error", "open")
    return connect(ledger=ledger, outbox=box, **options)  # pyright: ignore[reportArgumentType]


def opened(ledger: Ledger | AwayLedger, box: Path, **options: Any) -> QuotaService:
    service = open_with(ledger, box, **options)
    service.__enter__()
    return service


def with_org(store: Ledger, value: int = 1_000) -> None:
    with connect(ledger=store) as service:
        service.define(Resource("org", Capacity(value), "reject", dim="tokens"))


def spend(service: QuotaService, *amounts: int) -> None:
    with service.task_budget(calls=10**6):
        for amount in amounts:
            reserve_nowait("org", amount).commit()


def letters(box: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(box.glob("*.json"))]


def kept(box: Path, node: str = NODE) -> int:
    """What the letters say was used of a node."""
    partings = [parting for letter in letters(box) for parting in letter["partings"]]
    return sum(parting["used"] for parting in partings if parting["node"] == node)


def state(store: Ledger, node: str = NODE) -> NodeState:
    return next(each for each in store.read() if each.node == node)


def numbers(store: Ledger) -> list[tuple[str, int]]:
    """Of the usage events, without what counters count."""
    rows = [row for _n, row in store.usage(0, 2**40)]
    return [(row.holder, row.number) for row in rows if not row.text.startswith('{"count":')]


def check_booked(store: Ledger, box: Path, used: int, node: str = NODE) -> None:
    """It is all there, nothing twice, and nothing is left."""
    found = state(store, node)
    assert (found.used, found.out, found.stranded, found.holders) == (used, 0, 0, 0)
    [probe] = store.sync([Claim(node, "probe", 1, is_last=True)])
    assert probe.outcome == "ok"
    assert store.verify() == []
    assert sorted(path.name for path in box.iterdir()) == []
    assert len(numbers(store)) == len(set(numbers(store)))


def away(ledger: AwayLedger, service: QuotaService, *amounts: int) -> None:
    """Let a service spend while its ledger is away, after it has leased something."""
    spend(service, 1)
    ledger.is_away = True
    spend(service, *amounts)
