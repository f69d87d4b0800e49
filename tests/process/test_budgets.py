# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""Who pays for a child: it is reserved before it starts, kept to that, and settled exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    QuotaExceeded,
    QuotaService,
    Rate,
    Resource,
    UsageEvent,
    connect,
    principal,
    process,
    task_budget,
)
from budgetware.accounts import waiting
from budgetware.errors import NoBudget
from budgetware.process import ProcessResult
from tests.process.programs import SLEEP, SPIN, TELL, is_alive, pid_in, python, until

MIB = 1 << 20


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect() as connected:
        yield connected


def principal_of(service: QuotaService, name: str) -> Any:
    view = service.principal(name)
    assert view is not None
    return view.snapshot()


async def test_a_run_holds_its_limits_and_settles_to_what_it_used(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    held: Any = None
    async with task_budget(cpu_micros=10**7, memory=500 * MIB) as budget:
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: process.run(python(TELL, str(path)), cpu_seconds=2, memory="100MiB")
            )
            await pid_in(path)
            held = budget.snapshot()
            group.cancel_scope.cancel()
        after = budget.snapshot()
    assert (held["cpu_micros"].reserved, held["memory"].reserved) == (2_000_000, 100 * MIB)
    assert (after["cpu_micros"].reserved, after["memory"].reserved) == (0, 0)
    assert isinstance(after["cpu_micros"].spent, int)
    assert 0 < after["cpu_micros"].spent < 2_000_000
    assert after["cpu_micros"].assumed == 0


async def test_what_is_charged_is_what_the_result_says() -> None:
    async with task_budget(cpu_micros=10**7) as budget:
        first = await process.run(["true"])
        second = await process.run(["ls", "/"], cpu_seconds=1)
    assert budget.spent("cpu_micros") == first.cpu_micros + second.cpu_micros


async def test_without_limits_it_is_counted_all_the_same(service: QuotaService) -> None:
    async with task_budget(calls=1) as budget:
        result = await process.run(["true"])
    assert budget.spent("cpu_micros") == result.cpu_micros
    assert budget.spent("memory") == result.peak_memory_bytes
    assert budget.spent("calls") == 0


async def test_other_amounts_are_charged_as_given() -> None:
    async with task_budget(calls=5, usd="1") as budget:
        await process.run(["true"], calls=2, usd="0.25")
    assert (budget.spent("calls"), str(budget.spent("usd"))) == (2, "0.250000")


async def test_what_is_not_there_is_refused_before_the_child_starts(tmp_path: Path) -> None:
    async with task_budget(cpu_micros=10**6) as budget:
        with pytest.raises(BudgetExceeded, match="cpu_micros"):
            await process.run(["touch", str(tmp_path / "ran")], cpu_seconds=1.5)
        assert budget.spent("cpu_micros") == 0
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_run_that_names_no_cpu_gets_what_the_poorest_payer_has_left() -> None:
    async with task_budget(cpu_micros=10**8), task_budget(cpu_micros=300_000) as budget:
        result = await process.run(python(SPIN))
        assert result.limit == "cpu"
        assert 300_000 <= result.cpu_micros < 430_000
        with pytest.raises(BudgetExceeded, match="cpu_micros"):
            await process.run(["true"])
    assert budget.spent("cpu_micros") == result.cpu_micros


async def test_a_run_that_names_no_memory_gets_what_is_left() -> None:
    async with task_budget(memory=64 * MIB) as budget:
        result = await process.run(["sh", "-c", "ulimit -v"])
    assert result.stdout.split() == [b"65536"]
    assert budget.snapshot()["memory"].reserved == 0


async def test_what_goes_beyond_is_debt() -> None:
    async with task_budget(cpu_micros=200_000) as budget:
        result = await process.run(python(SPIN), cpu_seconds=0.2)
    assert budget.snapshot()["cpu_micros"].overrun == result.cpu_micros - 200_000 >= 0


async def test_a_cpu_rate_that_rejects_refuses_the_next_child(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"cpu_micros": Rate(400_000, "hour")})
    with principal("alice"):
        first = await process.run(python(SPIN), cpu_seconds=0.3)
        with pytest.raises(QuotaExceeded) as caught:
            await process.run(["true"], cpu_seconds=0.3)
    assert first.limit == "cpu"
    assert caught.value.retry_after is not None
    assert principal_of(service, "alice")["cpu_micros"].spent >= 300_000


async def test_a_cpu_rate_that_throttles_lets_the_next_child_wait(service: QuotaService) -> None:
    slow = Resource("cpu", Rate(400_000, "hour"), enforcement="throttle")
    fast = Resource("cpu", Rate(400_000, "second"), enforcement="throttle")
    service.define_principal("alice", quotas={"cpu_micros": slow})
    results: list[ProcessResult] = []

    async def next_child() -> None:
        results.append(await process.run(["true"], cpu_seconds=0.2))

    with principal("alice"):
        await process.run(python(SPIN), cpu_seconds=0.4)
        async with anyio.create_task_group() as group:
            group.start_soon(next_child)
            await until(lambda: len(waiting) == 1)
            assert results == []
            service.define_principal("alice", quotas={"cpu_micros": fast})
    assert [result.returncode for result in results] == [0]


async def test_a_run_that_names_no_cpu_waits_until_there_is_enough_of_it(
    service: QuotaService,
) -> None:
    quota = Resource("cpu", Rate(400_000, 1, max=400_000), enforcement="throttle")
    service.define_principal("alice", quotas={"cpu_micros": quota})
    with principal("alice"):
        await process.run(python(SPIN), cpu_seconds=0.4)
        result = await process.run(python("import time\nwhile time.process_time() < 0.2: pass"))
    assert (result.returncode, result.limit) == (0, None)


async def test_max_wait_ends_the_wait(service: QuotaService) -> None:
    quota = Resource("cpu", Rate(100_000, "hour"), enforcement="throttle")
    service.define_principal("alice", quotas={"cpu_micros": quota})
    with principal("alice"):
        await process.run(python(SPIN), cpu_seconds=0.1)
        with pytest.raises(QuotaExceeded):
            await process.run(["true"], cpu_seconds=0.1, max_wait=0.05)


async def test_two_children_cannot_hold_more_than_the_ceiling_of_a_principal(
    service: QuotaService, tmp_path: Path
) -> None:
    service.define_principal("alice", quotas={"memory": Capacity(150 * MIB)})
    path = tmp_path / "pid"
    with principal("alice"):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: process.run(python(TELL, str(path)), memory="100MiB"))
            await pid_in(path)
            with pytest.raises(QuotaExceeded, match="memory"):
                await process.run(["true"], memory="100MiB")
            group.cancel_scope.cancel()
        after = await process.run(["true"], memory="100MiB")
    assert after.returncode == 0
    assert principal_of(service, "alice")["memory"].reserved == 0


async def test_an_exempt_principal_is_counted_and_not_limited(service: QuotaService) -> None:
    service.define_principal("root", quotas={"cpu_micros": Capacity(1)}, exempt=True)
    with principal("root"):
        result = await process.run(["true"])
    assert result.limit is None
    assert principal_of(service, "root")["cpu_micros"].spent == result.cpu_micros


# The end of its task.


async def test_a_terminated_task_kills_its_child_and_is_charged_for_it(tmp_path: Path) -> None:
    path, pid = tmp_path / "pid", 0
    budget = task_budget(cpu_micros=10**7)
    with pytest.raises(BudgetTerminated):
        async with budget, anyio.create_task_group() as group:
            group.start_soon(lambda: process.run(python(TELL, str(path)), cpu_seconds=1))
            pid = await pid_in(path)
            budget.terminate("enough")
    balance = budget.snapshot()["cpu_micros"]
    assert not is_alive(pid)
    assert isinstance(balance.spent, int)
    assert (0 < balance.spent < 1_000_000, balance.reserved, balance.assumed) == (True, 0, 0)


async def test_a_deadline_kills_the_child() -> None:
    budget = task_budget(seconds=0.3, cpu_micros=10**7)
    with pytest.raises(BudgetTerminated) as caught:
        async with budget:
            await process.run(python(SLEEP), cpu_seconds=1)
    assert caught.value.dim == "millis"
    assert budget.snapshot()["cpu_micros"].reserved == 0


async def test_a_child_of_a_foreign_task_ends_with_the_task_that_pays(tmp_path: Path) -> None:
    path, pid, errors = tmp_path / "pid", 0, list[BaseException]()
    budget = task_budget(cpu_micros=10**7)

    async def foreign() -> None:
        with pytest.raises((NoBudget, BudgetTerminated)) as caught:
            await process.run(python(TELL, str(path)), cpu_seconds=1)
        errors.append(caught.value)

    async with anyio.create_task_group() as group, budget:
        group.start_soon(budget.wrap(foreign))
        pid = await pid_in(path)
    assert not is_alive(pid)
    assert isinstance(errors[0], NoBudget)
    assert budget.snapshot()["cpu_micros"].reserved == 0


async def test_a_child_of_a_foreign_task_ends_when_that_is_terminated(tmp_path: Path) -> None:
    path, pid, errors = tmp_path / "pid", 0, list[BaseException]()
    budget = task_budget(cpu_micros=10**7)

    async def foreign() -> None:
        with pytest.raises(BudgetTerminated) as caught:
            await process.run(python(TELL, str(path)), cpu_seconds=1)
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        with pytest.raises(BudgetTerminated):
            async with budget:
                group.start_soon(budget.wrap(foreign))
                pid = await pid_in(path)
                budget.terminate("enough")
    assert not is_alive(pid)
    assert len(errors) == 1
    assert budget.snapshot()["cpu_micros"].reserved == 0


def test_a_deadline_kills_the_child_of_sync_code() -> None:
    budget = task_budget(seconds=0.3, cpu_micros=10**7)
    with pytest.raises(BudgetTerminated) as caught, budget:
        process.run_sync(python(SLEEP), cpu_seconds=1)
    assert caught.value.dim == "millis"
    assert budget.snapshot()["cpu_micros"].reserved == 0


async def test_a_blocked_thread_ends_its_child_with_the_task(tmp_path: Path) -> None:
    path, pid = tmp_path / "pid", 0
    budget = task_budget(cpu_micros=10**7)

    def tool() -> None:
        process.run_sync(python(TELL, str(path)), cpu_seconds=1)

    with pytest.raises(BudgetTerminated):
        async with budget, anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, tool)
            pid = await pid_in(path)
            budget.terminate("enough")
    assert not is_alive(pid)
    assert budget.snapshot()["cpu_micros"].reserved == 0


# What is told of it.


async def event_of(service: QuotaService, command: list[str], **options: Any) -> UsageEvent:
    async with service.subscribe() as events:
        await process.run(command, **options)
        return await anext(events)


async def test_it_is_told_of_as_a_tool_by_the_name_of_its_program(service: QuotaService) -> None:
    event = await event_of(service, ["/bin/echo", "secret"])
    assert (event.kind, event.name, event.outcome) == ("tool", "echo", "completed")
    assert "secret" not in repr(event)
    assert event.charged["cpu_micros"] > 0
    assert event.charged["memory"] > 0


async def test_it_is_told_of_by_the_name_it_is_given(service: QuotaService) -> None:
    assert (await event_of(service, ["true"], name="linter")).name == "linter"
