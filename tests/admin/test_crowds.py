"""Many requests while agents run: everybody is answered, and nothing is lost or counted twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    Capacity,
    QuotaService,
    Resource,
    UsageEvent,
    admin,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.admin import face
from budgetware.events import event_of
from tests.admin.desk import KEYS, asking

PATHS = (
    "/usage",
    "/api/sys/overview",
    "/api/sys/tasks",
    "/api/sys/principals/alice/usage",
    "/api/sys/resources",
    "/api/sys/events",
)


@budgeted(calls=1, tokens=2)
async def step() -> None:
    await anyio.sleep(0)


async def agent(name: str, steps: int) -> None:
    async with task_budget("agent", calls=steps, principal=name):
        for _ in range(steps):
            await step()
            async with reserve("pages", 1):
                pass


async def test_a_hundred_requests_while_agents_run(app: Any, service: QuotaService) -> None:
    service.update("pages", limit=Capacity(100_000))
    statuses: list[int] = []

    async def ask(path: str) -> None:
        statuses.append((await client.get(path)).status_code)

    async def change(number: int) -> None:
        body = {"unit": f"leaf{number}"}
        statuses.append((await client.put("/api/sys/resources/pages", json=body)).status_code)

    async with asking(app) as client, anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(agent, "bob", 50)
        for number in range(100):
            tasks.start_soon(ask, PATHS[number % len(PATHS)])
        for number in range(10):
            tasks.start_soon(change, number)
    assert statuses == [200] * 110
    assert service.resource("pages").balance.spent == 800
    assert service.resource("pages").revision == 12
    async with asking(app) as client:
        report = (await client.get("/usage?principal=bob")).json()
        everything = (await client.get("/usage")).json()
    assert report["usage"]["charged"]["calls"] == 800
    assert everything["sessions"] == {"started": 16, "completed": 16, "failed": 0}


async def test_of_many_that_add_the_same_one_is_first(app: Any, service: QuotaService) -> None:
    statuses: list[int] = []

    async def add() -> None:
        body = {"name": "new", "limit": {"type": "capacity", "value": 5}}
        statuses.append((await client.post("/api/sys/resources", json=body)).status_code)

    async with asking(app) as client, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(add)
    assert sorted(statuses) == [201] + [409] * 19


async def test_of_many_that_change_the_same_revision_one_is_first(app: Any) -> None:
    statuses: list[int] = []

    async def change(number: int) -> None:
        answer = await client.put(
            "/api/sys/resources/pages",
            json={"unit": f"leaf{number}"},
            headers={"If-Match": '"1"'},
        )
        statuses.append(answer.status_code)

    async with asking(app) as client, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(change, number)
    assert sorted(statuses) == [200] + [409] * 19


async def test_a_shared_task_of_another_process_is_shown_but_not_ended_here(
    app: Any, service: QuotaService
) -> None:
    async with asking(app) as client, task_budget("crew", tokens=5, shared=True) as task:
        shown = (await client.get(f"/api/sys/tasks/{task.id}")).json()
        missing = await client.post("/api/sys/tasks/shared:crew/terminate", json={"reason": "so"})
    assert shown["is_shared"] is True
    assert missing.status_code == 404


def test_reading_ends_while_events_keep_coming(service: QuotaService) -> None:
    reserve_nowait(tokens=1).commit()
    event = event_of(service.recorded()[0][1])
    records = service.runtime.records
    assert records is not None

    def another() -> UsageEvent:
        records.put(another)  # as agents do that are faster than whoever reads
        return event

    records.put(another)
    assert service.last_recorded() == 2
    assert service.last_recorded() == 3


async def test_of_many_that_define_it_differently_in_a_ledger_one_is_first(tmp_path: Path) -> None:
    statuses: list[int] = []

    async def add(value: int) -> None:
        body = {"name": "new", "limit": {"type": "capacity", "value": value}}
        statuses.append((await client.post("/api/sys/resources", json=body)).status_code)

    async with connect(ledger=f"sqlite:///{tmp_path}/b.db") as service:
        app = admin.app(service, keys=KEYS)
        async with asking(app) as client, anyio.create_task_group() as tasks:
            for value in range(1, 21):
                tasks.start_soon(add, value)
    assert sorted(statuses) == [201] + [409] * 19


async def test_what_another_process_has_just_defined_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face, "REFRESH_SECONDS", 1_000.0)
    address = f"sqlite:///{tmp_path}/b.db"
    async with (
        connect(ledger=address) as here,
        connect(ledger=address) as there,
        asking(admin.app(here, keys=KEYS)) as client,
    ):
        assert (await client.get("/api/sys/resources")).json() == {"resources": []}
        await to_thread.run_sync(there.define, Resource("new", Capacity(5)))
        body = {"name": "new", "limit": {"type": "capacity", "value": 6}}
        answer = await client.post("/api/sys/resources", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (409, "name")
