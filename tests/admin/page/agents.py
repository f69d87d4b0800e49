"""An agent that does what a test tells it, one thing after the other, inside a task of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskStatus

from budgetware import TaskBudget, Usage, budgeted, task_budget
from tests.admin.page.stage import PATIENCE_SECONDS, Stage

T = TypeVar("T")
Order = tuple[Callable[[], Awaitable[Any]], Future[Any]]


@budgeted(calls=1)
async def search() -> None:
    """A tool."""


@budgeted(tokens=500, calls=1, kind="llm", model="gpt-4o-mini", settle=Usage.of)
async def think() -> dict[str, object]:
    """A model, which reports 400 tokens."""
    return {"usage": {"prompt_tokens": 300, "completion_tokens": 100}}


class Agent:
    """A task on a stage.

    Attributes:
        budget: its task.
        done: how its block has ended.
    """

    def __init__(self, stage: Stage, name: str, options: dict[str, Any]) -> None:
        self._stage = stage
        ready: Future[tuple[TaskBudget, ObjectSendStream[Order]]] = Future()
        self.done = stage.begin(live, name, options, ready)
        self.done.add_done_callback(lambda done: failed(ready, done))
        self.budget, self._orders = ready.result(PATIENCE_SECONDS)

    def begins(self, order: Callable[[], Awaitable[T]]) -> Future[T]:
        """Let it do something after what it is at."""
        answer: Future[T] = Future()
        self._stage.portal.call(self._orders.send, (order, answer))
        return answer

    def does(self, order: Callable[[], Awaitable[T]]) -> T:
        """Let it do something, and give what comes of it."""
        return self.begins(order).result(PATIENCE_SECONDS)

    def ends(self) -> None:
        """Let its block end, however it does."""
        self._stage.call(self._orders.aclose)
        self.done.exception(PATIENCE_SECONDS)


async def live(name: str, options: dict[str, Any], ready: Future[Any]) -> None:
    send, receive = anyio.create_memory_object_stream[Order](100)
    async with send, receive, task_budget(name, **options) as budget:
        ready.set_result((budget, send))
        await obey(receive)


async def obey(orders: ObjectReceiveStream[Order]) -> None:
    async for order, answer in orders:
        try:
            answer.set_result(await order())
        except Exception as error:
            answer.set_exception(error)


def failed(ready: Future[Any], done: Future[None]) -> None:
    """The task could not be entered."""
    if not ready.done():
        ready.set_exception(done.exception() or AssertionError("it did not begin"))


@contextmanager
def agent(stage: Stage, name: str = "research", **options: Any) -> Generator[Agent]:
    """An agent that lives as long as the block."""
    made = Agent(stage, name, options)
    try:
        yield made
    finally:
        made.ends()


@contextmanager
def crowd(stage: Stage, count: int) -> Generator[None]:
    """So many tasks beside each other, named `worker-000` and so on, as long as the block."""
    ready: Future[anyio.Event] = Future()
    done = stage.begin(workers, count, ready)
    leave = ready.result(PATIENCE_SECONDS)
    try:
        yield
    finally:
        stage.portal.call(leave.set)
        done.result(PATIENCE_SECONDS)


async def workers(count: int, ready: Future[anyio.Event]) -> None:
    leave = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            await tasks.start(work, f"worker-{number:03}")
        ready.set_result(leave)
        await leave.wait()
        tasks.cancel_scope.cancel()


async def work(name: str, *, task_status: TaskStatus[None]) -> None:
    async with task_budget(name, tokens=1_000, calls=50, usd="0.5"):
        task_status.started()
        await anyio.sleep_forever()
