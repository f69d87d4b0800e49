"""Processes that fork with an open service: what is leased is the parent's, and stays so."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    connect,
    principal,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.sqlite import SqliteLedger
from budgetware.ledgers.terms import NodeState
from tests.ledgers.away_ledgers import AwayLedger, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@contextmanager
def forked(act: Callable[[], Any]) -> Generator[Callable[[], Any], None, None]:
    """Have a child do something; what is yielded waits for what it returned, or raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = act()
        except BaseException as error:
            found = repr(error)
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)

    def result() -> Any:
        assert select.select([reader], [], [], 20)[0], "the child hangs"
        return json.loads(os.read(reader, 100_000))

    try:
        yield result
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)


def in_child(act: Callable[[], Any]) -> Any:
    with forked(act) as result:
        return result()


def outcome(act: Callable[[], Any]) -> str:
    """What a call ends in: the error, or `ok`."""
    try:
        act()
    except LedgerUnavailable as error:
        return "refused" if "connect() in the child" in str(error) else repr(error)
    except BudgetExceeded:
        return "exceeded"
    return "ok"


def draw(name: str, n: int = 1) -> str:
    return outcome(lambda: reserve_nowait(name, n).commit())


def state(store: MemoryLedger | SqliteLedger, node: str = "r/org") -> NodeState:
    return next(each for each in store.read() if each.node == node)


@pytest.fixture
def store() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def service(store: MemoryLedger) -> Iterator[QuotaService]:
    with connect(ledger=store) as connected:
        connected.define(Resource("org", Capacity(1_000), "throttle", dim="tokens"))
        connected.define(Resource("pace", Rate(1_000, "second"), "throttle"))
        connected.define(Resource("slots", Concurrency(3), "throttle"))
        yield connected


@pytest.mark.parametrize("on_ledger_error", ["lease", "reject", "open"])
def test_leases_grant_nothing_in_a_child(store: MemoryLedger, on_ledger_error: Any) -> None:
    with connect(ledger=store, on_ledger_error=on_ledger_error) as service:
        service.define(Resource("org", Capacity(1_000), "throttle", dim="tokens"))
        service.define(Resource("pace", Rate(1_000, "second"), "throttle"))
        service.define(Resource("slots", Concurrency(3), "throttle"))
        for name in ("org", "pace", "slots"):
            for _ in range(20):
                assert draw(name) == "ok"
        assert in_child(lambda: [draw(n) for n in ("org", "pace", "slots") * 2]) == ["refused"] * 6
        assert [draw(name) for name in ("org", "pace", "slots")] == ["ok"] * 3
        service.flush()
        assert state(store).used == 21
    assert store.verify() == []


def test_what_a_child_gives_back_is_not_granted_there(service: QuotaService) -> None:
    held = [reserve_nowait("org", 100), reserve_nowait("slots", 2), reserve_nowait("pace", 10)]

    def give_back() -> list[str]:
        for each in held:
            each.release()
        return [draw(name) for name in ("org", "slots", "pace") * 2]

    assert in_child(give_back) == ["refused"] * 6
    for each in held:
        each.commit()


def test_an_exempt_principal_is_refused_too(service: QuotaService) -> None:
    service.define_principal("ops", quotas={"tokens": Capacity(10)}, exempt=True)

    def act() -> str:
        with principal("ops"):
            return outcome(lambda: reserve_nowait(tokens=5).commit())

    assert act() == "ok"
    assert in_child(act) == "refused"
    assert act() == "ok"


def test_async_calls_are_refused_at_once(service: QuotaService) -> None:
    def act() -> str:
        import anyio

        async def main() -> None:
            async with task_budget(calls=3), reserve_nowait("org", 1):
                pass

        return outcome(lambda: anyio.run(main))

    assert in_child(lambda: _in_thread(act)) == "refused"


def _in_thread(act: Callable[[], Any]) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def test_plain_budgets_go_on_working(service: QuotaService) -> None:
    def act() -> list[str]:
        with service.task_budget(calls=2):
            return [
                outcome(lambda: reserve_nowait(calls=1, tokens=5).commit()),
                draw("org"),
                outcome(lambda: reserve_nowait(calls=2).commit()),
                outcome(lambda: reserve_nowait(calls=1).commit()),
            ]

    assert in_child(act) == ["ok", "refused", "exceeded", "ok"]


def test_what_asks_the_ledger_is_refused(service: QuotaService) -> None:
    def act() -> list[str]:
        acts: list[Callable[[], Any]] = [
            service.flush,
            lambda: service.define(Resource("more", Capacity(5))),
            lambda: service.update("org", limit=Capacity(5)),
            lambda: service.delete("org"),
            lambda: task_budget("job", shared=True, tokens=5).__enter__(),
            lambda: reserve_nowait(tokens=5, idempotency_key="k").commit(),
        ]
        return [outcome(each) for each in acts]

    assert in_child(act) == ["refused"] * 6


def test_a_shared_task_goes_on_in_the_parent_alone(
    service: QuotaService, store: MemoryLedger
) -> None:
    with service.task_budget("job", shared=True, tokens=100) as task:

        def draw_on_it() -> str:
            return outcome(lambda: reserve_nowait(tokens=5).commit())

        def act() -> list[str]:
            found = draw_on_it()
            task.__exit__(None, None, None)
            return [found]

        assert draw_on_it() == "ok"
        assert in_child(act) == ["refused"]
        assert draw_on_it() == "ok"
    service.flush()
    assert state(store, "t/job/tokens").used == 10


def test_closing_in_a_child_leaves_the_parent_alone(tmp_path: Path) -> None:
    store = SqliteLedger(tmp_path / "l.db")
    service = connect(ledger=store).__enter__()
    service.define(Resource("org", Capacity(1_000), "reject"))
    held = reserve_nowait("org", 7)
    assert in_child(service.close) is None
    reader = SqliteLedger(tmp_path / "l.db")
    reader.open()
    assert (state(reader).used, state(reader).holders, state(reader).out >= 7) == (0, 1, True)
    held.commit()
    assert draw("org", 5) == "ok"
    service.close()
    assert (state(reader).used, state(reader).holders, reader.verify()) == (12, 0, [])
    reader.close()


def test_a_child_that_connects_is_served(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with connect(ledger=SqliteLedger(path)) as service:
        service.define(Resource("org", Capacity(100), "reject"))
        assert draw("org", 40) == "ok"

        def act() -> list[str]:
            service.close()
            with connect(ledger=SqliteLedger(path)):
                return [draw("org", 30), draw("org", 31), draw("org", 5)]

        service.flush()
        assert in_child(act) == ["ok", "exceeded", "ok"]
        assert draw("org", 26) == "exceeded"
        assert draw("org", 25) == "ok"


def test_a_service_that_is_not_open_yet_can_be_opened_in_a_child(
    service: QuotaService, store: MemoryLedger
) -> None:
    later = connect(ledger=store)
    assert later.runtime.shared is not None
    courier = later.runtime.shared.courier

    def act() -> list[str]:
        with later:
            return [draw("org"), courier.holder]

    drawn, holder = in_child(act)
    assert drawn == "ok"
    assert holder != courier.holder


def test_holders_have_96_random_bits() -> None:
    services = [connect(ledger=MemoryLedger()) for _ in range(50)]
    holders = {each.runtime.shared.courier.holder for each in services if each.runtime.shared}
    assert {len(holder) for holder in holders} == {24}
    assert len(holders) == 50


def test_usage_events_do_not_pile_up_in_a_child(service: QuotaService) -> None:
    def act() -> int:
        with service.task_budget(calls=1_000):
            for _ in range(200):
                reserve_nowait(calls=1).commit()
        assert service.runtime.shared is not None
        return len(service.runtime.shared.courier.usage)

    assert in_child(act) == 0


def test_a_child_does_not_keep_the_letter_of_its_parent_locked(
    store: MemoryLedger, tmp_path: Path
) -> None:
    box = tmp_path / "box"
    ledger: Any = AwayLedger(store)
    service = connect(
        ledger=ledger, outbox=box, lease_seconds=0.5, on_ledger_error="open"
    ).__enter__()
    service.define(Resource("org", Capacity(1_000), "reject"))
    ledger.is_away = True
    assert draw("org", 5) == "ok"
    wait_until(lambda: list(box.glob("*.json")))
    sign = tmp_path / "sign"

    def live_on() -> None:
        sign.touch()
        signal.pause()

    with forked(live_on):
        wait_until(sign.exists)
        service.close()
        connect(ledger=store, outbox=box).__enter__().close()
        assert list(box.iterdir()) == []
    assert state(store).used == 5


def test_a_child_does_not_touch_the_outbox_of_its_parent(
    store: MemoryLedger, tmp_path: Path
) -> None:
    box = tmp_path / "box"
    ledger: Any = AwayLedger(store)
    service = connect(
        ledger=ledger, outbox=box, lease_seconds=0.5, on_ledger_error="open"
    ).__enter__()
    service.define(Resource("org", Capacity(1_000), "reject"))
    ledger.is_away = True
    assert draw("org", 5) == "ok"
    wait_until(lambda: list(box.glob("*.json")))
    assert in_child(service.close) is None
    connect(ledger=store, outbox=box).__enter__().close()
    assert len(list(box.glob("*.json"))) == 1
    ledger.is_away = False
    service.close()
    assert (state(store).used, list(box.iterdir())) == (5, [])
