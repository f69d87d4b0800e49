"""Principals in a ledger: their quotas, parents and exemption are there for whoever connects."""

from __future__ import annotations

import pytest

from budgetware import Capacity, QuotaExceeded, Rate, principal, reserve_nowait
from tests.ledgers.places import Place


def test_another_process_finds_them_with_their_parents_and_quotas(place: Place) -> None:
    with place.connect() as first:
        first.define_principal("team", quotas={"tokens": Capacity(100)})
        first.define_principal("alice", parent="team", quotas={"calls": Rate(10, "day")})
        first.define_principal("ops", exempt=True)
    with place.connect() as second:
        found = {view.name: view for view in second.principals()}
        assert (found["alice"].parent, found["alice"].quotas) == (
            "team",
            {"calls": Rate(10, "day")},
        )
        assert found["team"].quotas == {"tokens": Capacity(100)}
        assert (found["ops"].exempt, found["team"].exempt) == (True, False)


def test_what_they_used_counts_in_the_next_process(place: Place) -> None:
    with place.connect() as first:
        first.define_principal("team", quotas={"tokens": Capacity(100)})
        with principal("team"):
            reserve_nowait(tokens=60).commit()
    with place.connect() as second, principal("team"):
        with pytest.raises(QuotaExceeded, match="40 of 100 tokens left"):
            reserve_nowait(tokens=60)
        reserve_nowait(tokens=40).commit()
        team = second.principal("team")
        assert team is not None
        assert team.snapshot()["tokens"].remaining == 0


def test_a_quota_that_was_taken_away_does_not_come_back(place: Place) -> None:
    with place.connect() as first:
        first.define_principal("alice", quotas={"tokens": Capacity(1), "calls": Capacity(5)})
        first.define_principal("alice", quotas={"calls": Capacity(5)})
    with place.connect() as second:
        alice = second.principal("alice")
        assert alice is not None
        assert alice.quotas == {"calls": Capacity(5)}


def test_what_is_defined_here_comes_before_what_is_there(place: Place) -> None:
    with place.connect() as first:
        first.define_principal("alice", exempt=True)
    with place.connect() as second:
        second.define_principal("alice", exempt=False)
        alice = second.principal("alice")
        assert alice is not None
        assert not alice.exempt
