"""What has happened: what workers were told, beside what the ledger says afterwards.

Not here: the scenarios.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from budgetware.ledgers.terms import Difference
from tests.chaos.crew import Call, Crew, Life
from tests.chaos.orders import Orders
from tests.chaos.stores import Store, Watch


@dataclass(frozen=True)
class Outcome:
    """The sums of one scenario, in units unless it says otherwise.

    Attributes:
        calls: acknowledged settlements.
        acknowledged: what these have used.
        unknown: what those may have used whose worker did not live to say so.
        run: what was used for certain, or was held by a call at the death of its worker.
        excess: the most that was ever spoken for beyond the value.
        lost_events, double_events: usage events that were flushed and are not there, or twice.
    """

    value: int
    calls: int
    acknowledged: int
    unknown: int
    run: int
    used: int
    stranded: int
    out: int
    samples: int
    excess: int
    kills: int
    pauses: int
    lost_events: int
    double_events: int
    differences: list[Difference] = field(default_factory=list[Difference])

    @property
    def overspend(self) -> int:
        """Units of calls that ran though there were none left."""
        return max(0, self.run - self.value)

    @property
    def twice(self) -> int:
        """Units booked that no call has used, and events that are there twice."""
        return max(0, self.used - self.acknowledged - self.unknown) + self.double_events

    @property
    def lost(self) -> int:
        """Units of acknowledged calls that nothing in the ledger stands for, and lost events."""
        booked = self.used + self.stranded
        return max(0, self.acknowledged - booked) + self.lost_events

    @property
    def unreported(self) -> int:
        """Units of acknowledged calls that the ledger has not as used."""
        return max(0, self.acknowledged - self.used)


def look(store: Store, crew: Crew, watch: Watch, orders: Orders) -> Outcome:
    """Wait until the leases of the dead are over, and add up."""
    state = store.settled(orders.node)
    calls = list(crew.calls())
    known = [call for call in calls if call.is_acknowledged]
    rest = [call for call in calls if not call.is_acknowledged]
    acknowledged = sum(call.used for call in known)
    lost, double = _events(store.events(), crew.lives)
    return Outcome(
        value=orders.value,
        calls=len(known),
        acknowledged=acknowledged,
        unknown=sum(call.used for call in rest),
        run=acknowledged + sum(call.used if call.ended_ns else call.held for call in rest),
        used=state.used,
        stranded=state.stranded,
        out=state.out,
        samples=watch.samples,
        excess=watch.excess,
        kills=crew.kills,
        pauses=crew.pauses,
        lost_events=lost,
        double_events=double,
        differences=store.read(lambda ledger: ledger.verify()),
    )


def _events(texts: Iterable[str], lives: Iterable[Life]) -> tuple[int, int]:
    """How many usage events are missing that were flushed, and how many are there again."""
    granted = Counter(
        event["name"]
        for event in map(json.loads, texts)
        if event["outcome"] in ("completed", "failed", "cancelled")
    )
    flushed = {name for life in lives for name in life.said.acknowledged[: life.said.flushed]}
    return len(flushed - granted.keys()), sum(granted.values()) - len(granted)


def most_at_once(calls: Iterable[Call], lives: Iterable[Life]) -> int:
    """The most calls that ran at one instant; those of the killed ran until then."""
    ends = {life.orders.name: life.ended_ns for life in lives}
    changes: list[tuple[int, int]] = []
    for call in calls:
        end = call.ended_ns or ends[call.number.partition(".")[0]]
        changes += [(call.began_ns, call.held), (end, -call.held)]
    most = now = 0
    for _moment, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def check(outcome: Outcome, *, per_call: bool = False) -> None:
    """What holds whatever has happened to workers, unless `stranded="free"`."""
    assert outcome.samples > 0
    assert outcome.excess <= 0, outcome
    assert outcome.overspend == 0, outcome
    assert outcome.lost == 0, outcome
    assert outcome.twice == 0, outcome
    assert outcome.out == 0, outcome
    assert outcome.differences == [], outcome
    if per_call:
        assert outcome.unreported == 0, outcome
