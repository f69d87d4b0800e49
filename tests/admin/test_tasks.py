"""Tasks over HTTP: shown, ended, topped up once for each request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from budgetware import BudgetTerminated, QuotaService, TaskBudget, admin, connect, task_budget
from budgetware.admin import top_ups
from budgetware.admin.failures import Failure
from tests.admin.desk import DEADLINE_SECONDS, KEYS, asking, bearer

FIVE = {"amounts": {"tokens": 5}, "request_id": "r1"}


def path_of(task: TaskBudget, verb: str = "") -> str:
    return f"/api/sys/tasks/{task.id}{verb}"


async def test_tasks_are_shown_parents_first(app: Any) -> None:
    async with (
        asking(app) as client,
        task_budget("org", tokens=100),
        task_budget("research", tokens=50, principal="alice") as inner,
    ):
        tasks = (await client.get("/api/sys/tasks")).json()["tasks"]
        one = (await client.get(path_of(inner))).json()
    assert [task["path"] for task in tasks] == ["org", "org/research"]
    assert tasks[1]["parent"] == tasks[0]["id"]
    assert (one["principal"], one["dims"]["tokens"]["limit"]) == ("alice", 50)


async def test_a_key_of_a_principal_sees_the_tasks_of_its_tree(app: Any) -> None:
    async with (
        asking(app, "team-ops") as client,
        task_budget("hers", tokens=100, principal="alice") as hers,
        task_budget("his", tokens=50, principal="bob") as his,
    ):
        tasks = (await client.get("/api/sys/tasks")).json()["tasks"]
        statuses = [(await client.get(path_of(task))).status_code for task in (hers, his)]
        ended = await client.post(path_of(his, "/terminate"), json={"reason": "not mine"})
        raised = await client.post(path_of(his, "/top_up"), json=FIVE)
        assert his.snapshot()["tokens"].limit == 50
    assert [task["name"] for task in tasks] == ["hers"]
    assert (statuses, ended.status_code, raised.status_code) == ([200, 404], 404, 404)


async def asked_inside(app: Any, verb: str, body: Any, *, ended: str | None = None) -> Any:
    """What a task is answered about itself, while it runs or ends, and what ends it."""
    answer: Any = None
    caught: BudgetTerminated | None = None
    async with asking(app) as client:
        try:
            async with task_budget("long", tokens=5) as task:
                if ended is not None:
                    task.terminate(ended)
                with anyio.CancelScope(shield=True):
                    answer = await client.post(path_of(task, verb), json=body)
                await anyio.sleep_forever()
        except BudgetTerminated as error:
            caught = error
    return answer, caught


async def test_a_task_is_ended_with_a_reason(app: Any) -> None:
    answer, error = await asked_inside(app, "/terminate", {"reason": "enough of it"})
    assert error.reason == "enough of it"
    assert answer.status_code == 200
    assert (answer.json()["latched"], answer.json()["verdict"]) == ("enough of it", "exhausted")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": 5}, "reason"),
        ({"reason": "x" * 257}, "reason"),
        ({"reason": "x", "force": True}, "force"),
    ],
)
async def test_an_end_without_a_reason_is_refused(app: Any, body: Any, field: str) -> None:
    async with asking(app) as client, task_budget("long", tokens=5) as task:
        answer = await client.post(path_of(task, "/terminate"), json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
        task.checkpoint()


async def test_a_top_up_raises_limits(app: Any) -> None:
    async with asking(app) as client, task_budget("long", tokens=5, usd="0.25", seconds=60) as task:
        amounts = {"tokens": 1_000, "usd": "0.5", "seconds": 30}
        body = {"amounts": amounts, "request_id": "r1"}
        answer = await client.post(path_of(task, "/top_up"), json=body)
    dims = answer.json()["dims"]
    assert answer.status_code == 200
    limits = {dim: dims[dim]["limit"] for dim in ("tokens", "usd", "millis")}
    assert limits == {"tokens": 1_005, "usd": "0.750000", "millis": 90_000}


async def test_the_same_request_counts_once_and_is_answered_the_same(app: Any) -> None:
    async with asking(app) as client, task_budget("long", tokens=5) as task:
        first = await client.post(path_of(task, "/top_up"), json=FIVE)
        task.charge(tokens=1)
        again = await client.post(path_of(task, "/top_up"), json=FIVE)
        assert task.snapshot()["tokens"].limit == 10
    later = None
    async with asking(app) as client:
        later = await client.post(path_of(task, "/top_up"), json=FIVE)
    assert first.json() == again.json() == later.json()
    assert later.status_code == 200


async def test_sent_at_once_it_counts_once(app: Any) -> None:
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await client.post(path_of(task, "/top_up"), json=FIVE)).status_code)

    async with asking(app) as client, task_budget("long", tokens=5) as task:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
        assert task.snapshot()["tokens"].limit == 10
    assert statuses == [200] * 50


async def test_the_same_amount_written_otherwise_is_the_same(app: Any) -> None:
    async with asking(app) as client, task_budget("long", usd=1) as task:
        for amount in ("0.5", "0.50"):
            body = {"amounts": {"usd": amount}, "request_id": "r1"}
            assert (await client.post(path_of(task, "/top_up"), json=body)).status_code == 200
        assert task.snapshot()["usd"].to_dict()["limit"] == "1.500000"


@pytest.mark.parametrize("amounts", [{"tokens": 6}, {"calls": 5}, {"tokens": 5, "calls": 5}])
async def test_the_same_id_with_other_amounts_is_a_conflict(app: Any, amounts: Any) -> None:
    async with asking(app) as client, task_budget("long", tokens=5, calls=5) as task:
        await client.post(path_of(task, "/top_up"), json=FIVE)
        body = {"amounts": amounts, "request_id": "r1"}
        answer = await client.post(path_of(task, "/top_up"), json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (409, "request_id")
        assert task.snapshot()["tokens"].limit == 10


async def test_the_id_of_another_principal_is_another_id(app: Any) -> None:
    async with asking(app) as client, task_budget("long", tokens=5, principal="alice") as task:
        await client.post(path_of(task, "/top_up"), json=FIVE)
        await client.post(path_of(task, "/top_up"), json=FIVE, headers=bearer("team-ops"))
        assert task.snapshot()["tokens"].limit == 15


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "amounts"),
        ({"amounts": {"tokens": 5}}, "request_id"),
        ({"amounts": {"tokens": 5}, "request_id": ""}, "request_id"),
        ({"amounts": {"tokens": 5}, "request_id": 7}, "request_id"),
        ({"amounts": {"tokens": 5}, "request_id": "x" * 129}, "request_id"),
        ({"amounts": {}, "request_id": "1"}, "amounts"),
        ({"amounts": [], "request_id": "1"}, "amounts"),
        ({"amounts": {"tokens": 0}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"tokens": -5}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"tokens": 1.5}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"tokens": True}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"tokens": None}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"tokens": 2**53}, "request_id": "1"}, "amounts.tokens"),
        ({"amounts": {"usd": "much"}, "request_id": "1"}, "amounts.usd"),
        ({"amounts": {"seconds": -1}, "request_id": "1"}, "amounts.seconds"),
        ({"amounts": {"tokenz": 5}, "request_id": "1"}, "amounts.tokenz"),
        ({"amounts": {"bytes": 5}, "request_id": "1"}, "amounts"),
        ({"amounts": {"seconds": 5}, "request_id": "1"}, "amounts"),
    ],
)
async def test_a_top_up_that_cannot_be_raises_nothing(app: Any, body: Any, field: str) -> None:
    async with asking(app) as client, task_budget("long", tokens=5) as task:
        answer = await client.post(path_of(task, "/top_up"), json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
        assert task.snapshot()["tokens"].limit == 5


async def test_one_that_failed_may_come_again(app: Any) -> None:
    body = {"amounts": {"bytes": 5}, "request_id": "r1"}
    async with asking(app) as client, task_budget("long", tokens=5) as task:
        assert (await client.post(path_of(task, "/top_up"), json=body)).status_code == 400
        assert (await client.post(path_of(task, "/top_up"), json=FIVE)).status_code == 200


async def test_a_carve_whose_parent_has_not_enough_is_429(app: Any) -> None:
    async with (
        asking(app) as client,
        task_budget("org", tokens=10),
        task_budget("part", tokens=8, carve=True) as part,
    ):
        answer = await client.post(path_of(part, "/top_up"), json=FIVE)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "BudgetExceeded"


@pytest.mark.parametrize("verb", ["/terminate", "/top_up"])
async def test_a_task_that_has_ended_is_404(app: Any, verb: str) -> None:
    async with task_budget("short", tokens=5) as task:
        pass
    async with asking(app) as client:
        body = FIVE if verb == "/top_up" else {"reason": "so"}
        assert (await client.post(path_of(task, verb), json=body)).status_code == 404
        assert (await client.get(path_of(task))).status_code == 404


async def test_a_task_that_was_ended_is_not_topped_up(app: Any) -> None:
    answer, error = await asked_inside(app, "/top_up", FIVE, ended="so")
    assert error.reason == "so"
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "BudgetTerminated")


def many(requests: top_ups.TopUps, count: int, make: Callable[[], Any]) -> None:
    for number in range(count):
        requests.once(f"r{number}", {}, make)


def test_so_many_requests_within_an_hour_are_remembered_and_no_more(
    monkeypatch: pytest.MonkeyPatch, service: QuotaService
) -> None:
    monkeypatch.setattr(top_ups, "MOST", 10)
    requests = top_ups.TopUps()
    many(requests, 10, lambda: "made")
    assert requests.once("r0", {}, lambda: "again") == "made"
    with pytest.raises(Failure) as caught:
        requests.once("r10", {}, lambda: "made")
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) <= 3_600


def test_after_an_hour_the_oldest_one_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_ups, "MOST", 10)
    requests = top_ups.TopUps()
    many(requests, 10, lambda: "made")
    monkeypatch.setattr(top_ups, "LEAST_KEPT_SECONDS", 0.0)
    assert requests.once("r10", {}, lambda: "new") == "new"
    assert requests.once("r1", {}, lambda: "again") == "made"


async def test_shared_tasks_of_other_processes_are_topped_up_and_ended(tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path}/shared.db"
    async with connect(ledger=ledger) as here, connect(ledger=ledger) as there:
        client = asking(admin.app(here, keys=KEYS))
        task = there.task_budget("job", tokens=5, shared=True)
        answers: list[Any] = []

        async def work() -> None:
            async with client as asked, task:
                await soon(lambda: len(here.tasks()) == 1)
                path = "/api/sys/tasks/shared:job"
                answers.append(await asked.post(f"{path}/top_up", json=FIVE))
                answers.append(await asked.post(f"{path}/top_up", json=FIVE))
                answers.append(await asked.post(f"{path}/terminate", json={"reason": "enough"}))
                await anyio.sleep(DEADLINE_SECONDS)

        with pytest.raises(BudgetTerminated, match="enough"):
            await work()
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[1].json()["dims"]["tokens"]["limit"] == 10


async def test_a_request_counts_once_for_a_shared_task_whichever_server_it_reaches(
    tmp_path: Path,
) -> None:
    ledger = f"sqlite:///{tmp_path}/shared.db"
    limits: list[int] = []
    async with connect(ledger=ledger) as there, there.task_budget("job", tokens=5, shared=True):
        for _server in range(3):
            async with connect(ledger=ledger) as here:
                app = admin.app(here, keys=KEYS)
                async with asking(app) as client:
                    await soon(lambda here=here: len(here.tasks()) == 1)  # type: ignore[misc]
                    path = "/api/sys/tasks/shared:job/top_up"
                    answer = await client.post(path, json=FIVE)
                    limits.append(answer.json()["dims"]["tokens"]["limit"])
                    other = {**FIVE, "amounts": {"tokens": 6}}
                    assert (await client.post(path, json=other)).status_code == 409
    assert limits == [10, 10, 10]


async def test_a_shared_task_is_its_principals_also_elsewhere(tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path}/shared.db"
    async with connect(ledger=ledger) as here, connect(ledger=ledger) as there:
        await anyio.to_thread.run_sync(lambda: here.define_principal("team"))
        async with (
            asking(admin.app(here, keys=KEYS), "team-eyes") as client,
            there.task_budget("job", tokens=5, shared=True, principal="team"),
        ):
            await soon(lambda: len(here.tasks()) == 1)
            [task] = (await client.get("/api/sys/tasks")).json()["tasks"]
    assert (task["principal"], task["policy"]) == ("team", "reject")
    assert task["started_at"].endswith("Z")


async def test_a_task_that_was_terminated_is_shown_so(app: Any) -> None:
    answers: list[Any] = []

    async def end(task: TaskBudget) -> None:
        async with asking(app) as client:
            answers.append(await client.post(path_of(task, "/terminate"), json={"reason": "why"}))

    async def run(group: anyio.abc.TaskGroup) -> None:
        async with task_budget("long", tokens=5) as task:
            group.start_soon(end, task)
            await anyio.sleep(DEADLINE_SECONDS)

    async with anyio.create_task_group() as group:
        with pytest.raises(BudgetTerminated):
            await run(group)
    assert (answers[0].json()["latched"], answers[0].json()["verdict"]) == ("why", "exhausted")


async def test_a_limit_is_never_above_the_largest_amount(app: Any) -> None:
    body = {"amounts": {"tokens": 2**53 - 1}, "request_id": "r1"}
    async with asking(app) as client, task_budget("long", tokens=5) as task:
        assert (await client.post(path_of(task, "/top_up"), json=body)).status_code == 400
        assert task.snapshot()["tokens"].limit == 5


async def soon(is_so: Callable[[], bool]) -> None:
    """Wait until it is so, looking in a worker thread."""
    with anyio.fail_after(DEADLINE_SECONDS):
        while not await anyio.to_thread.run_sync(is_so):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)
