"""Reports, recorded events, the overview and health over HTTP."""

from __future__ import annotations

import time
from threading import Event
from typing import Any

import anyio
import pytest

from budgetware import (
    QuotaService,
    UsageReport,
    admin,
    budgeted,
    connect,
    principal,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import LedgerUnavailable
from tests.admin.desk import KEYS, asking


@budgeted(calls=1, kind="tool")
async def search() -> str:
    return "found"


async def work(name: str, calls: int = 1) -> None:
    async with task_budget("work", calls=100, principal=name):
        for _ in range(calls):
            await search()


async def test_a_report_is_of_the_principal_of_the_key(app: Any) -> None:
    await work("alice", 3)
    await work("bob", 2)
    counts: dict[str, int] = {}
    for key, query in (
        ("ops", ""),
        ("ops", "?principal=bob"),
        ("team-eyes", ""),
        ("team-eyes", "?principal=alice"),
    ):
        async with asking(app, key) as client:
            answer = await client.get(f"/usage{query}")
        report = UsageReport.from_dict(answer.json())
        counts[f"{report.principal}"] = report.usage.calls
    assert counts == {"None": 5, "bob": 2, "team": 3, "alice": 3}


async def test_a_report_is_of_its_window_and_groups(app: Any) -> None:
    await work("alice", 3)
    query = "since=2020-01-01&until=2020-01-03T12:00:00%2B02:00&bucket=day&by=principal,day"
    async with asking(app) as client:
        past = (await client.get(f"/usage?{query}")).json()
        now = (await client.get("/usage?by=principal,name&bucket=hour")).json()
    assert (past["since"], past["until"]) == ("2020-01-01T00:00:00Z", "2020-01-03T10:00:00Z")
    assert len(past["daily"]) == 3
    assert past["usage"]["calls"] == 0
    assert now["groups"][0]["name"] == "search"
    assert now["groups"][0]["usage"]["calls"] == 3
    assert sum(hour["usage"]["calls"] for hour in now["hourly"]) == 3


async def test_a_report_of_an_unknown_principal_is_404(app: Any) -> None:
    async with asking(app) as client:
        assert (await client.get("/usage?principal=nobody")).status_code == 404


async def test_named_counters_are_sections(app: Any, service: QuotaService) -> None:
    service.count("bundle_builds", principal="alice", requested=2)
    async with asking(app) as client:
        report = (await client.get("/usage?principal=alice")).json()
        without = (await client.get("/usage?principal=bob")).json()
    assert report["bundle_builds"] == {"requested": 2}
    assert "bundle_builds" not in without


async def test_the_newest_events_come_last(app: Any) -> None:
    await work("alice", 5)
    async with asking(app) as client:
        found = (await client.get("/api/sys/events?limit=3")).json()
        newest = found["events"][-1]["id"]
        nothing = (await client.get(f"/api/sys/events?after={newest}")).json()
        everything = (await client.get("/api/sys/events?after=0")).json()
    numbers = [event["id"] for event in everything["events"]]
    assert [event["id"] for event in found["events"]] == numbers[-3:] == sorted(numbers)[-3:]
    assert nothing == {"events": [], "last_event": everything["last_event"]}


async def test_events_can_be_read_page_by_page(app: Any) -> None:
    await work("alice", 7)
    numbers: list[int] = []
    after = 0
    async with asking(app) as client:
        for _ in range(4):
            page = (await client.get(f"/api/sys/events?after={after}&limit=2")).json()
            numbers += [event["id"] for event in page["events"]]
            after = page["last_event"]
    assert len(numbers) == len(set(numbers)) == 7


@pytest.mark.parametrize(
    ("key", "query", "names"),
    [
        ("ops", "", {"alice", "bob", None}),
        ("ops", "?principal=team", {"alice"}),
        ("ops", "?principal=bob", {"bob"}),
        ("team-eyes", "", {"alice"}),
        ("team-eyes", "?after=0", {"alice"}),
        ("team-eyes", "?principal=alice&limit=1", {"alice"}),
    ],
)
async def test_events_are_those_of_the_tree(
    app: Any, key: str, query: str, names: set[str | None]
) -> None:
    await work("alice")
    await work("bob")
    await search()
    async with asking(app, key) as client:
        events = (await client.get(f"/api/sys/events{query}")).json()["events"]
    assert {event["principal"] for event in events} == names


async def test_the_overview_is_that_of_the_service(app: Any, service: QuotaService) -> None:
    await work("alice")
    async with asking(app) as client, task_budget("open", tokens=5):
        found = (await client.get("/api/sys/overview")).json()
        own = service.overview()
    assert found.keys() == own.keys()
    assert [task["name"] for task in found["tasks"]] == ["open"]
    assert found["resources"] == own["resources"]
    assert found["last_event"] == own["last_event"]


async def test_the_overview_of_a_principal_is_its_part(app: Any) -> None:
    await work("alice")
    await work("bob")
    async with (
        asking(app, "team-eyes") as client,
        task_budget("hers", tokens=5, principal="alice"),
        task_budget("his", tokens=5, principal="bob"),
    ):
        found = (await client.get("/api/sys/overview")).json()
    assert [task["name"] for task in found["tasks"]] == ["hers"]
    assert {row["principal"] for row in found["activity"]["by"]} == {"alice"}
    assert found["activity"]["calls_per_second"] == pytest.approx(0.1)


async def test_many_viewers_cost_one_overview(
    app: Any, service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    overview = service.overview

    def counting() -> dict[str, Any]:
        asked.append(time.monotonic())
        return overview()

    monkeypatch.setattr(service, "overview", counting)

    async def look() -> None:
        assert (await client.get("/api/sys/overview")).status_code == 200

    began = time.monotonic()
    async with asking(app) as client, anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(look)
    assert len(asked) <= 1 + (time.monotonic() - began) / 0.2


async def test_what_waits_blocks_no_other_request(
    app: Any, service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = Event()

    def stuck(*_given: object, **_options: object) -> Any:
        released.wait(20)
        raise LedgerUnavailable("away")

    monkeypatch.setattr(service, "report", stuck)
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await client.get("/usage")).status_code)

    async with asking(app) as client, anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        for path in ("/healthz", "/api/sys/resources", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert statuses == []
        released.set()
    assert statuses == [503] * 8


async def test_a_ledger_that_is_away_is_503_with_retry_after(
    app: Any, service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_given: object, **_options: object) -> Any:
        raise LedgerUnavailable("the ledger does not answer")

    monkeypatch.setattr(service, "report", away)
    async with asking(app) as client:
        answer = await client.get("/usage")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["type"] == "LedgerUnavailable"


async def test_health_needs_no_key(app: Any) -> None:
    async with asking(app, None) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "ledger": "memory://"})


async def test_health_is_503_where_the_ledger_does_not_answer(tmp_path: Any) -> None:
    async with connect(ledger=f"sqlite:///{tmp_path}/b.db") as service:
        app = admin.app(service, keys=KEYS)
        async with asking(app, None) as client:
            before = await client.get("/healthz")
            app.state.face.health.at = float("-inf")
            assert service.runtime.shared is not None
            await anyio.to_thread.run_sync(service.runtime.shared.close)
            after = await client.get("/healthz")
    assert before.json() == {"status": "ok", "ledger": f"sqlite:///{tmp_path}/b.db"}
    assert (after.status_code, after.headers["Retry-After"]) == (503, "1")
    assert after.json()["error"]["message"] == "the ledger does not answer"


async def test_a_service_that_records_nothing_says_so(tmp_path: Any) -> None:
    ledger = f"sqlite:///{tmp_path}/b.db"
    async with (
        connect(ledger=ledger, record_usage=False) as service,
        asking(admin.app(service, keys=KEYS)) as client,
    ):
        answers = [await client.get(path) for path in ("/usage", "/api/sys/events", "/events")]
        overview = await client.get("/api/sys/overview")
    assert [answer.status_code for answer in answers] == [409, 409, 409]
    assert "nothing is recorded" in answers[0].json()["error"]["message"]
    assert overview.status_code == 200


async def test_names_never_get_out_unescaped(service: QuotaService) -> None:
    with principal("alice"):
        reserve_nowait(tokens=1, kind="llm", model="</script><img src=x>& ☃").commit()
    async with asking(admin.app(service, keys=KEYS)) as client:
        for path in ("/api/sys/events", "/api/sys/overview", "/usage?by=name,model,provider"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert all(32 <= byte < 127 and byte not in b"<>&" for byte in answer.content)


async def test_an_error_of_ours_says_nothing_of_itself(
    app: Any,
    service: QuotaService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("inner matters")

    monkeypatch.setattr(service, "tasks", broken)
    async with asking(app) as client:
        answer = await client.get("/api/sys/tasks?")
        after = await client.get("/api/sys/resources")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "InternalError")
    assert "inner matters" not in answer.text
    assert "GET /api/sys/tasks failed" in caplog.text
    assert after.status_code == 200


@pytest.mark.parametrize(
    ("key", "name", "status"),
    [
        ("ops", "nobody", 404),
        ("ops", "bob", 200),
        ("team-eyes", "team", 200),
        ("team-eyes", "nobody", 403),
    ],
)
@pytest.mark.parametrize("path", ["/usage", "/api/sys/events"])
async def test_what_is_asked_of_nobody_is_404_and_not_empty(
    app: Any, path: str, key: str, name: str, status: int
) -> None:
    async with asking(app, key) as client:
        assert (await client.get(path, params={"principal": name})).status_code == status
