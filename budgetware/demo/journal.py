"""The calls of one run, read from its usage events: one row each, in the order they ended."""

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from budgetware import UsageEvent

from .documents import Document

# What the ledger decided about a call; the other outcomes are words for themselves.
_DECISIONS = {"completed": "admitted"}


@dataclass(frozen=True, slots=True)
class Row:
    """One call of the receipt.

    Attributes:
        caller: "tool", or the model's name.
        reserved, charged: tokens; None for calls that hold none.
        settled: the call came to its end and was charged what the endpoint reported.
    """

    number: int
    caller: str
    name: str
    document: str
    decision: str
    reserved: int | None
    charged: int | None
    usd: Decimal | None
    ms: int
    settled: bool

    @property
    def is_refused(self) -> bool:
        """Whether the call never ran, and so held nothing."""
        return self.decision == "rejected" or (self.decision == "terminated" and not self.charged)


class Journal:
    """Collects the events of a run and keeps a row for each."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.events: list[UsageEvent] = []
        self.rows: list[Row] = []
        self._documents = {document.budget_name: document.name for document in documents}

    async def read(self, events: AsyncIterable[UsageEvent], show: Callable[[Row], None]) -> None:
        """Take in events until there are no more, and show each row."""
        async for event in events:
            show(self.add(event))

    def add(self, event: UsageEvent) -> Row:
        """Take in one event."""
        row = self._row(event)
        self.events.append(event)
        self.rows.append(row)
        return row

    @property
    def reserved_tokens(self) -> int:
        """What was held in all, one call after another."""
        return sum(row.reserved or 0 for row in self.rows if not row.is_refused)

    @property
    def settled_tokens(self) -> int:
        """What the calls that came to their end were charged."""
        return sum(row.charged or 0 for row in self.rows if row.settled)

    @property
    def cut_rows(self) -> list[Row]:
        """The calls that were charged without the endpoint's word: cut, broken or silent."""
        return [row for row in self.rows if row.charged and not row.settled]

    @property
    def cut_tokens(self) -> int:
        """What those calls were charged: what they held."""
        return sum(row.charged or 0 for row in self.cut_rows)

    def _row(self, event: UsageEvent) -> Row:
        usd = event.charged.get("usd")
        return Row(
            number=len(self.rows) + 1,
            caller=event.model or "tool",
            name=event.name or "",
            document=self._documents.get(event.task.rpartition("/")[2], ""),
            decision=_DECISIONS.get(event.outcome, event.outcome),
            reserved=_count(event.reserved.get("tokens")),
            charged=_count(event.charged.get("tokens")),
            usd=None if usd is None else Decimal(usd),
            ms=round(event.duration_ms),
            settled=event.outcome == "completed" and event.usage is not None,
        )


def _count(amount: int | Decimal | None) -> int | None:
    return None if amount is None else int(amount)
