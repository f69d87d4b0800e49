"""One run of the demo's job: a service, a client, the agent, and the counts afterwards."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from time import monotonic
from typing import Any, Protocol

import anyio

from budgetware import TaskBudget, connect

from .activity import Activity
from .agent import Agent, Outcome
from .chat import ChatClient
from .comparison import Comparison
from .documents import Document
from .endpoint import Endpoint
from .failures import ModelFailed, ModelRefused
from .journal import Journal, Row
from .plan import Plan
from .token_counts import server_count

MAX_UNREAD_EVENTS = 10_000


class Screen(Protocol):
    """Shows a run while it goes on."""

    def watch(self, activity: Activity, budget: Callable[[], TaskBudget | None]) -> None:
        """Begin: what is running, and the task's budget as soon as there is one."""

    def show(self, row: Row) -> None:
        """Show a call that has ended."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves behind; the receipt is made of it."""

    model: str
    outcome: Outcome
    journal: Journal
    snapshot: dict[str, Any]
    keep: dict[str, int | Decimal]
    comparison: Comparison
    events_dropped: int
    wall_seconds: float


async def run_job(
    endpoint: Endpoint, documents: list[Document], plan: Plan, screen: Screen
) -> Result:
    """Do the job once; a model that fails is in the result, not raised."""
    began = monotonic()
    journal, activity = Journal(documents), Activity()
    async with ChatClient(endpoint) as client:
        before = await _processed(client)
        agent = Agent(client, documents, plan, activity)
        screen.watch(activity, lambda: agent.budget)
        dropped = await _run(agent, journal, plan, endpoint, screen)
        after = await _processed(client)
    snapshot = agent.budget.snapshot().to_dict() if agent.budget else {}
    return Result(
        model=endpoint.model,
        outcome=agent.outcome,
        journal=journal,
        snapshot=snapshot,
        keep=plan.keep,
        comparison=Comparison(
            settled=journal.settled_tokens,
            reported=client.reported.tokens,
            cut_calls=len(journal.cut_rows),
            cut=journal.cut_tokens,
            spent=int(agent.budget.spent("tokens")) if agent.budget else 0,
            server=None if before is None or after is None else after - before,
        ),
        events_dropped=dropped,
        wall_seconds=monotonic() - began,
    )


async def name_model(endpoint: Endpoint) -> Endpoint:
    """Fill in the first model the endpoint lists, where none was named.

    Raises:
        ModelFailed: the endpoint cannot be reached, refuses, or lists none.
    """
    if endpoint.model:
        return endpoint
    async with ChatClient(endpoint) as client:
        answer = await client.get(f"{endpoint.url}/models")
    try:
        name = answer.json()["data"][0]["id"]
    except (ValueError, LookupError, TypeError):
        name = None
    if not isinstance(name, str) or not name.isprintable():
        raise ModelRefused(f"{endpoint.url} lists no model; name one with --model-name")
    return replace(endpoint, model=name)


async def _run(
    agent: Agent, journal: Journal, plan: Plan, endpoint: Endpoint, screen: Screen
) -> int:
    async with connect(prices=_prices(plan, endpoint)) as service:
        events = service.subscribe(maxsize=MAX_UNREAD_EVENTS)
        async with anyio.create_task_group() as readers:
            readers.start_soon(journal.read, events, screen.show)
            try:
                async with anyio.create_task_group() as watchers:
                    watchers.start_soon(_end_on_interrupt, agent)
                    await agent.run()
                    watchers.cancel_scope.cancel()
            finally:
                events.close()
    return events.dropped


async def _end_on_interrupt(agent: Agent) -> None:
    """Let Ctrl-C end the task as its budget would: with an answer and a receipt."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            if agent.budget is not None:
                agent.budget.terminate("interrupted")
                return


def _prices(plan: Plan, endpoint: Endpoint) -> dict[str, dict[str, Decimal]] | None:
    if plan.prices is None:
        return None
    return {endpoint.model: {"input": plan.prices.input, "output": plan.prices.output}}


async def _processed(client: ChatClient) -> int | None:
    """The server's counters, or None where it has none or is gone."""
    try:
        count = await server_count(client)
    except ModelFailed:
        return None
    return None if count is None else count.tokens
