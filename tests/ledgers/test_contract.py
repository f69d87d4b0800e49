"""The suite of ledgers: the memory ledger passes it, and those of `broken_ledgers` do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from threading import Thread
from unittest import SkipTest

import pytest

from budgetware.errors import ConfigurationError
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Claim, Terms
from budgetware.testing.ledger_contract import LedgerContract
from tests.ledgers.broken_ledgers import BROKEN, Break


class MemoryContract(LedgerContract):
    made: type[MemoryLedger] = MemoryLedger

    def make_ledger(self, now: Callable[[], float], wall: Callable[[], float]) -> Ledger:
        return self.made(now=now, wall=wall)

    def corrupt(self, ledger: Ledger, node: str) -> None:
        assert isinstance(ledger, MemoryLedger)
        ledger._nodes[node].used += 1  # pyright: ignore[reportPrivateUsage]


class TestMemoryLedger(MemoryContract): ...


def first_failure(contract: type[LedgerContract]) -> str | None:
    """The name of a test that fails; random lives come last."""
    names = [name for name in dir(contract) if name.startswith("test_")]
    names.sort(key=lambda name: "random_lives" in name)
    return next((name for name in names if fails(contract(), name)), None)


def fails(contract: LedgerContract, name: str) -> bool:
    try:
        getattr(contract, name)()
        contract.teardown_method()
    except Exception:
        return True
    return False


@pytest.mark.parametrize("name", BROKEN)
def test_broken_ledger_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how: Break = BROKEN[name]

    class Broken(MemoryContract):
        made = how(monkeypatch)
        is_shrunk = False

    assert first_failure(Broken) is not None


ALONE = ["counts_replays_twice", "takes_old_claims", "counts_overruns_once"]


@pytest.mark.parametrize("name", ALONE)
def test_random_lives_find_it_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(MemoryContract):
        made = BROKEN[name](monkeypatch)
        is_shrunk = False

    assert fails(Broken(), "test_random_lives_of_a_capacity_agree_with_the_reckoning")


def test_ledger_that_is_not_made_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"make_ledger\(now, wall\) is not there"):
        LedgerContract().test_token_is_spent_once()


class Bare(LedgerContract):
    """A ledger that can neither be given the time nor be spoilt."""

    is_time_given = False

    def make_ledger(self, now: Callable[[], float], wall: Callable[[], float]) -> Ledger:
        return MemoryLedger(now=now, wall=wall)


def skips(name: str) -> bool:
    contract = Bare()
    try:
        getattr(contract, name)()
    except SkipTest:
        return True
    finally:
        contract.teardown_method()
    return False


def test_what_a_ledger_cannot_do_is_skipped_and_the_rest_passes() -> None:
    names = [name for name in dir(Bare) if name.startswith("test_")]
    skipped = [name for name in names if skips(name)]
    assert 0 < len(skipped) < len(names) // 2
    assert "test_changed_balance_is_found" in skipped


class SecondSight(MemoryLedger):
    """A second door to the nodes of another memory ledger."""

    def __init__(self, first: MemoryLedger) -> None:
        super().__init__()
        self.__dict__.update(first.__dict__)


def test_tests_with_a_second_ledger_run_on_two() -> None:
    class Two(MemoryContract):
        def another(self, ledger: Ledger) -> Ledger:
            assert isinstance(ledger, MemoryLedger)
            return SecondSight(ledger)

    contract = Two()
    contract.test_units_are_granted_once_to_many_threads()
    contract.teardown_method()
    contract.test_second_ledger_of_the_store_sees_all_of_it()


def test_memory_ledger_may_be_used_by_threads_at_once() -> None:
    ledger = MemoryLedger()
    ledger.define("r/x", Terms("capacity", 1_000), "")
    granted: list[int] = []

    def draw(holder: str) -> None:
        for epoch in range(1, 101):
            used = 0 if epoch == 1 else 2 * (epoch - 1)
            [grant] = ledger.sync([Claim("r/x", holder, epoch, used=used, need=2)])
            granted.append(grant.granted)

    threads = [Thread(target=draw, args=(f"h-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted == [2] * 400
    assert ledger.verify() == []


def test_import_of_testing_loads_neither_pytest_nor_hypothesis() -> None:
    program = (
        "import sys, budgetware.testing.ledger_contract; "
        "print(sorted({'pytest', 'hypothesis'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_missing_hypothesis_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis.stateful", None)
    with pytest.raises(ConfigurationError, match="pip install hypothesis"):
        MemoryContract().test_random_lives_of_a_capacity_agree_with_the_reckoning()
    with pytest.raises(ConfigurationError, match="pip install hypothesis"):
        MemoryContract().test_random_lives_of_a_rate_keep_to_the_bound()
