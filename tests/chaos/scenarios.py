"""Random scenarios, which tests run once, and `python -m tests.chaos` for as long as asked."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.chaos.crew import Crew, Life, pass_time
from tests.chaos.orders import LEASE_SECONDS, Orders
from tests.chaos.reading import Outcome, look
from tests.chaos.stores import Store, Watch
from tests.ledgers.proxy import Action, Proxy

ACTIONS: tuple[Action, ...] = ("lose", "twice", "hold", "cut", "cut before")


def kill_at_random(
    store: Store, crew: Crew, orders: Orders, *, kills: int = 20, workers: int = 4
) -> Outcome:
    """Kill workers at random, and have those who live at the end draw what is left."""
    random = Random(orders.seed)
    crew.hire_all(orders, workers)
    with Watch(store, orders.node) as watch:
        crew.harass(random, kills)
        flush_some(crew, random)
        crew.wait_all("done")
        crew.leave_all()
        return look(store, crew, watch, orders)


def pause_at_random(
    store: Store, crew: Crew, orders: Orders, *, pauses: int = 6, kills: int = 0
) -> Outcome:
    """Stop workers for longer than their lease, one after the other, and kill some."""
    random = Random(orders.seed)
    crew.hire_all(orders, 4)
    with Watch(store, orders.node) as watch:
        for _ in range(pauses):
            crew.harass(random, kills // pauses)
            pause(crew, random)
        flush_some(crew, random)
        crew.wait_all("done")
        crew.leave_all()
        draw_the_rest(crew, orders)
        return look(store, crew, watch, orders)


def pause(crew: Crew, random: Random) -> None:
    """Stop one or two of them until their leases are over, and go on."""
    sleepers: list[Life] = random.sample(crew.alive(), random.randint(1, 2))
    for life in sleepers:
        life.wait_for("=", "done")
        life.stop()
    pass_time(random.uniform(1.1, 1.5) * LEASE_SECONDS)
    for life in sleepers:
        life.go_on()
        crew.pauses += 1


def draw_the_rest(crew: Crew, orders: Orders) -> None:
    """Draw what sleepers gave back after all others had found nothing."""
    last = crew.hire(orders)
    last.wait_for("done")
    last.leave()


def flush_some(crew: Crew, random: Random) -> None:
    """Have half of those who live report what they have done, with their usage events."""
    alive = crew.alive()
    for life in random.sample(alive, (len(alive) + 1) // 2):
        life.wait_for("ready")
        life.do("flush")


def restart_at_random(store: Store, crew: Crew, orders: Orders, *, times: int = 3) -> Outcome:
    """Kill the server so often, and start it again after a moment."""
    server = store.server
    assert server is not None
    random = Random(orders.seed)
    crew.hire_all(orders, 4)
    with Watch(store, orders.node) as watch:
        for _ in range(times):
            pass_time(random.uniform(0.1, 0.4))
            server.kill()
            crew.kills += 1
            pass_time(random.uniform(0, 0.3))
            server.start()
        flush_some(crew, random)
        crew.wait_all("done")
        crew.leave_all()
        return look(store, crew, watch, orders)


def spoil_replies(store: Store, crew: Crew, orders: Orders, *, times: int = 25) -> Outcome:
    """Have something happen to so many replies of the server, on their way to the workers."""
    assert store.server is not None
    random = Random(orders.seed)
    with Proxy(store.server.port) as proxy:
        crew.hire_all(replace(orders, ledger=store.server.url(port=proxy.port)), 4)
        with Watch(store, orders.node) as watch:
            disturb(proxy, random, times)
            flush_some(crew, random)
            crew.wait_all("done")
            crew.leave_all()
            return look(store, crew, watch, orders)


def disturb(proxy: Proxy, random: Random, times: int) -> None:
    """Have something happen to so many replies, and to all connections now and then."""
    for _ in range(times):
        proxy.plan.append(random.choice(ACTIONS))
        pass_time(random.uniform(0.02, 0.2))
        proxy.release.set()
        if random.random() < 0.2:
            proxy.cut()
        proxy.release.clear()
    proxy.plan.clear()
    proxy.release.set()
