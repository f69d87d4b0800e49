"""The agent: reads files, asks a model about each, and writes one answer out of what is kept.

Each tool call and each model call is a `@budgeted` call. Nothing in here counts tokens or looks
at a limit: the agent works until its budget says no, whichever way the policy says it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    TaskBudget,
    Usage,
    budgeted,
    task_budget,
)
from budgetware.errors import InvalidAmount

from .activity import Activity
from .chat import ChatClient, ChatRequest, Chunk
from .documents import Document
from .failures import ModelFailed, StreamBroken, charge_on_error, clean, plain
from .plan import ANSWER_TOKENS, EXCERPT_CHARS, SUMMARY_TOKENS, Plan
from .prompts import Note, answer_messages, summary_messages
from .token_counts import chat_request

TASK = "demo"
ANSWER_SECONDS = 60.0

ModelCall = Callable[[ChatRequest], AsyncGenerator[Chunk]]


@dataclass(slots=True)
class Outcome:
    """What the agent brought home.

    Attributes:
        answer: the model's last answer, or "" where there was none.
        notes: one for each file it could pay for.
        ended_by: the end in one sentence: all files read, or what the budget said.
        failure: what the model's endpoint did wrong, if anything.
        no_answer: why there is no answer.
    """

    answer: str = ""
    notes: list[Note] = field(default_factory=list[Note])
    unreadable: list[str] = field(default_factory=list[str])
    ended_by: str = ""
    failure: ModelFailed | None = None
    no_answer: str = ""


class Agent:
    """One run of the job. `budget` is the task's budget, from the moment `run` has opened it."""

    def __init__(
        self, client: ChatClient, documents: list[Document], plan: Plan, activity: Activity
    ) -> None:
        self.budget: TaskBudget | None = None
        self.outcome = Outcome()
        self._client = client
        self._plan = plan
        self._activity = activity
        self._waiting = iter(documents)
        self._summarise = model_call(client, "summarise")
        self._answer = model_call(client, "answer")

    async def run(self) -> Outcome:
        """Work until the files or the budget are at their end, then write the answer."""
        plan, limits = self._plan, self._limits()
        try:
            async with task_budget(TASK, policy=plan.policy, keep=plan.keep, **limits) as budget:
                self.budget = budget
                async with anyio.create_task_group() as group:
                    for _ in range(plan.parallel):
                        group.start_soon(self._work, group.cancel_scope)
                await self._finish(budget)
        except BudgetTerminated as end:
            self.outcome.ended_by = plain(str(end))
            # The owner is told in an exception, and may still spend what was kept.
            if self.budget is not None and not self.outcome.answer:
                await self._finish(self.budget)
        return self.outcome

    def _limits(self) -> dict[str, Any]:
        plan = self._plan
        limits = {"tokens": plan.tokens, "calls": plan.calls, "usd": plan.usd}
        given = {dim: limit for dim, limit in limits.items() if limit is not None}
        return {**given, "seconds": plan.seconds}

    async def _work(self, group: anyio.CancelScope) -> None:
        """Take one file after another until there is none, or the budget refuses a call."""
        try:
            for document in self._waiting:
                await self._describe(document)
            self.outcome.ended_by = self.outcome.ended_by or "every file was read"
        except BudgetExceeded as refusal:
            # An agent that goes on asking gets nothing but refusals. The other workers go on: what
            # their calls give back may be enough for one more file.
            self.outcome.ended_by = plain(str(refusal))
        except ModelFailed as failure:
            self.outcome.failure = failure
            self.outcome.ended_by = "the model failed"
            group.cancel()

    async def _describe(self, document: Document) -> None:
        async with task_budget(document.budget_name, calls=2):
            try:
                with self._activity.call("read_file", document.name):
                    text = await read_file(document)
            except OSError:
                self.outcome.unreadable.append(document.name)
                return
            messages = summary_messages(document.name, text)
            request = await chat_request(self._client, messages, max_tokens=SUMMARY_TOKENS)
            said = await self._ask(self._summarise, request, document.name)
            self.outcome.notes.append(Note(document.name, plain(said)))

    async def _finish(self, budget: TaskBudget) -> None:
        """Write the answer out of what was kept for it."""
        if self.outcome.failure or not self.outcome.notes:
            self.outcome.no_answer = "there is nothing to sum up"
            return
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                async with budget.finish():
                    request = await self._answer_request()
                    self.outcome.answer = await self._ask(self._answer, request, "")
        except (BudgetExceeded, BudgetTerminated) as refusal:
            self.outcome.no_answer = plain(str(refusal))
        except TimeoutError:
            self.outcome.no_answer = "the model took too long"
        except ModelFailed as failure:
            self.outcome.failure = failure

    async def _answer_request(self) -> ChatRequest:
        """Put as many notes into the last prompt as what is kept can pay for."""
        notes, kept = list(self.outcome.notes), self._plan.kept_tokens
        while True:
            request = await chat_request(
                self._client, answer_messages(notes), max_tokens=min(ANSWER_TOKENS, kept // 3)
            )
            if request.most_tokens <= kept or len(notes) <= 1:
                return request
            fitting = len(notes) * kept // request.most_tokens
            notes = notes[: max(1, min(fitting, len(notes) - 1))]

    async def _ask(self, call: ModelCall, request: ChatRequest, document: str) -> str:
        pieces: list[str] = []
        name = "summarise" if document else "answer"
        with self._activity.call(name, document) as running:
            async with aclosing(call(request)) as chunks:
                async for chunk in chunks:
                    pieces.append(chunk.text)
                    running.chunks += 1
        return clean("".join(pieces)).strip()


@budgeted(calls=1, measure=("time",))
async def read_file(document: Document) -> str:
    """Read the beginning of a file: the agent's one tool."""
    return await anyio.to_thread.run_sync(document.excerpt, EXCERPT_CHARS)


def model_call(client: ChatClient, name: str) -> ModelCall:
    """Make a budgeted call of the client's model.

    Held before the call: the prompt's tokens and the most the model may write. Charged after it:
    the usage in the stream's last chunk. A stream that is cut stays charged as held.
    """
    budget_it = budgeted(
        name=name,
        kind="llm",
        model=client.endpoint.model,
        tokens=most_tokens,
        calls=1,
        settle=usage_of,
        on_error=charge_on_error,
        measure=("time",),
    )
    return budget_it(client.stream)


def most_tokens(request: ChatRequest) -> int:
    """Say what to hold for a request."""
    return request.most_tokens


def usage_of(chunk: Chunk) -> Usage | None:
    """Read what a stream has used so far; None while it has not said."""
    try:
        return Usage.of(chunk.usage) if chunk.usage else None
    except InvalidAmount as error:
        raise StreamBroken(f"the endpoint reports a usage that is none: {error}") from error
