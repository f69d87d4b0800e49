"""Budgets for the Claude Agent SDK: what a query may cost, and the tools that it runs.

    from claude_agent_sdk import ClaudeAgentOptions
    from budgetware import task_budget
    from budgetware_integrations.claude_agent_sdk import query

    async with task_budget("research", usd="0.50", tokens=400_000, calls=40):
        async for message in query(prompt="Where do rivers flow?", options=ClaudeAgentOptions()):
            print(message)

`query` is the SDK's, and `BudgetedClient` its `ClaudeSDKClient`, with the same messages. The calls
of models are made by Claude Code, a program of its own: they cannot be held one by one. So a query
is one reservation, and Claude Code is told where to stop.

**What is held.** One call; of `usd`, all that the tasks around it have left, or the
`max_budget_usd` of the options where that is less: it is what Claude Code is given as its
`max_budget_usd`, too. Queries at the same time share what is left only if each has a
`max_budget_usd` of its own. Of tokens, `tokens=20_000` at a time: when the answers so far have used
them, as many again are held, and where that is refused the query ends with `BudgetExceeded`.

**What is settled.** The usage of all models, subagents included, and the cost that the result
reports, which is an estimate of Claude Code. Without a result, as after a query that was left
early or broke: the tokens of the answers so far, and of `usd` their price where `options.model`
has one, else all that was held. Nothing where Claude Code never started.

**Tools** are held by hooks before and after each: `{"calls": 1}`, or what `tools=` says. A tool
that is refused is denied, and the model reads why. Where the task was terminated, the hook ends
the run. A throttled tool waits at most `max_wait=45` seconds, for Claude Code waits only a little
longer for the hook. A hook that fails blocks the tool. Tools of yours that are `@budgeted` are
charged twice unless `tools=` answers None for them, for hooks see names alone. `budget_options`
adds the hooks and no more.

**A query is a task** with `query(..., limits={"usd": "0.25"}, name="search")`.

Limits: Claude Code may overrun `max_budget_usd` by one turn, and the tokens by one answer; both are
booked. While it is being stopped it may make a call or two more, which nobody tells of. Quotas of
principals are not told to it. The hooks of a client pay from the task in which it
was connected, its queries from that in which they were sent. Works on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from budgetware import task_budget
from budgetware.errors import ConfigurationError

from ._claude_tools import GRACE_SECONDS, ToolHooks
from ._options import checked_limits
from ._requirements import require
from ._tool_calls import ONE_CALL, ToolAmounts

require("claude-agent-sdk", "0.2.180", "0.3")

import claude_agent_sdk as sdk  # noqa: E402
from claude_agent_sdk import (  # noqa: E402
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    Message,
    Transport,
)

from ._claude_queries import QuerySpending, most_usd  # noqa: E402

__all__ = [
    "DEFAULT_TOKENS",
    "DEFAULT_WAIT_SECONDS",
    "BudgetedClient",
    "budget_options",
    "query",
]

Prompt = str | AsyncIterable[dict[str, Any]]

DEFAULT_TOKENS = 20_000
"""What a query holds at a time: about one turn of Claude Code, with what it brings along."""
DEFAULT_WAIT_SECONDS = 45.0


def query(
    *,
    prompt: Prompt,
    options: ClaudeAgentOptions | None = None,
    transport: Transport | None = None,
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    tools: ToolAmounts = ONE_CALL,
    tokens: int = DEFAULT_TOKENS,
    policy: Any = None,
    max_wait: float = DEFAULT_WAIT_SECONDS,
) -> AsyncGenerator[Message]:
    """Query Claude Code as the SDK's `query` does; it holds while it runs.

    Args:
        prompt: as of the SDK; the same goes for `options` and `transport`.
        options: are copied, with the hooks and `max_budget_usd` added.
        transport: of your own. It is told of no `max_budget_usd`.
        limits: of this query, as `task_budget` takes them: it is a task then.
        name: of that task; by default `query`.
        tools: what a call of a tool holds, by dimension; a callable of its name and input; None.
        tokens: held at a time.
        policy: stricter than the payers' own, as of `reserve`.
        max_wait: the longest wait of a tool for a throttled resource, in seconds.

    Raises:
        ConfigurationError: an option cannot be.
        BudgetExceeded, BudgetTerminated: at its start, or when its tokens are used up.
    """
    given, limits = _checked(options), checked_limits(limits)
    hooks = ToolHooks(tools, policy, max_wait)
    spending = QuerySpending(tokens, policy, hooks)

    async def messages() -> AsyncGenerator[Message]:
        capped = _capped(given)
        await spending.start(prompt, capped)
        try:
            held = _with_hooks(capped, hooks)
            stream = sdk.query(prompt=prompt, options=held, transport=transport)
            async with aclosing(cast("AsyncGenerator[Message]", stream)) as received:
                async for message in received:
                    await spending.see(message)
                    yield message
        except BaseException as error:
            spending.end(error)
            raise
        spending.end()

    if limits is None:
        return messages()
    return task_budget(name or "query", **limits)(messages)()


def budget_options(
    options: ClaudeAgentOptions | None = None,
    *,
    tools: ToolAmounts = ONE_CALL,
    policy: Any = None,
    max_wait: float = DEFAULT_WAIT_SECONDS,
) -> ClaudeAgentOptions:
    """Return a copy of options whose hooks hold for tools, for the SDK's own `query` and client.

    The calls of models are not held; see `query`. Twice is once; use them for one session at a
    time. The arguments are those of `query`.
    """
    return _with_hooks(_checked(options), ToolHooks(tools, policy, max_wait))


class BudgetedClient(ClaudeSDKClient):
    """The SDK's client, whose queries hold until their result has been received.

    Args:
        options: as of the SDK; the same goes for `transport`.
        transport: of your own. It is told of no `max_budget_usd`.
        tools: what a call of a tool holds; the rest is as of `query`, too.
        tokens: held at a time, by each query.
        policy: stricter than the payers' own.
        max_wait: the longest wait of a tool, in seconds.
    """

    def __init__(
        self,
        options: ClaudeAgentOptions | None = None,
        transport: Transport | None = None,
        *,
        tools: ToolAmounts = ONE_CALL,
        tokens: int = DEFAULT_TOKENS,
        policy: Any = None,
        max_wait: float = DEFAULT_WAIT_SECONDS,
    ) -> None:
        self._given = _checked(options)
        self._hooks = ToolHooks(tools, policy, max_wait)
        self._spending = QuerySpending(tokens, policy, self._hooks)
        super().__init__(_with_hooks(self._given, self._hooks), transport)

    async def connect(self, prompt: Prompt | None = None) -> None:
        """Connect; a prompt is held for, and so is its session until `disconnect`."""
        capped = _capped(self._given)
        self.options = _with_hooks(capped, self._hooks)
        if prompt is not None:
            await self._spending.start(prompt, capped)
        try:
            await super().connect(prompt)
        except BaseException as error:
            self._spending.end(error)
            raise

    async def query(self, prompt: Prompt, session_id: str = "default") -> None:
        """Hold, and send a request; raises as `reserve` does, sending nothing."""
        await self._spending.start(prompt, _capped(self._given))
        try:
            await super().query(prompt, session_id)
        except BaseException as error:
            self._spending.end(error)
            raise

    async def receive_messages(self) -> AsyncIterator[Message]:
        """Receive messages; the result of a query settles it."""
        async for message in super().receive_messages():
            await self._spending.see(message)
            yield message

    async def disconnect(self) -> None:
        """Disconnect; what a query that has no result has used so far is charged."""
        try:
            await super().disconnect()
        finally:
            self._spending.end(GeneratorExit())


def _checked(options: Any) -> ClaudeAgentOptions:
    if options is not None and not isinstance(options, ClaudeAgentOptions):
        raise ConfigurationError(
            f"options={type(options).__name__}: give ClaudeAgentOptions, or None"
        )
    return ClaudeAgentOptions() if options is None else options


class _HeldTools(HookMatcher):
    """One of ours: options have them once."""


def _with_hooks(options: ClaudeAgentOptions, hooks: ToolHooks) -> ClaudeAgentOptions:
    given: dict[Any, list[HookMatcher]] = dict(options.hooks or {})
    if any(isinstance(matcher, _HeldTools) for matcher in given.get("PreToolUse", [])):
        return options
    seconds = hooks.max_wait + GRACE_SECONDS
    for event, hook in (
        ("PreToolUse", hooks.before),
        ("PostToolUse", hooks.after),
        ("PostToolUseFailure", hooks.after),
    ):
        callback = cast("Any", hook)
        matcher = _HeldTools(hooks=[callback], timeout=seconds, on_failure="block")
        given[event] = [*given.get(event, []), matcher]
    return replace(options, hooks=given)


def _capped(options: ClaudeAgentOptions) -> ClaudeAgentOptions:
    """A copy that tells Claude Code where to stop."""
    usd = most_usd(options)
    return options if usd is None else replace(options, max_budget_usd=float(usd))
