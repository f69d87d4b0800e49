"""The tools of Claude Code, held by the hooks around them. Not here: what its models use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from budgetware import Reservation, current_budget, reserve
from budgetware.errors import ConfigurationError, soft_termination

from ._model_calls import LONGEST_CALL
from ._options import CallSettings
from ._tool_calls import (
    Refused,
    ToolAmounts,
    amounts_of,
    call_name,
    checked_tools,
    ends_run,
    refusal_text,
)

GRACE_SECONDS: Final = 10.0
"""How much longer Claude Code waits for a hook than the hook for its turn."""


@dataclass
class ToolHooks:
    """Holds before a tool runs, settles after it. One for each session.

    tools: what a call holds.
    policy, max_wait: as of `reserve`.
    """

    tools: ToolAmounts
    policy: Any
    max_wait: float
    _held: dict[str, Reservation] = field(default_factory=dict[str, Reservation])

    def __post_init__(self) -> None:
        checked_tools(self.tools)
        CallSettings(policy=self.policy, max_wait=self.max_wait)
        wait: Any = self.max_wait
        if isinstance(wait, bool) or not isinstance(wait, int | float):
            raise ConfigurationError(f"max_wait={wait!r}: give seconds, for hooks end on time")

    async def before(self, call: Any, tool_use_id: str | None, _context: object) -> dict[str, Any]:
        """Hold, waiting where a payer throttles; answer a refusal with a denial of the tool."""
        name = call["tool_name"]
        amounts = amounts_of(self.tools, name, call["tool_input"])
        try:
            with soft_termination():
                await self._hold(amounts, name, tool_use_id or call["tool_use_id"])
        except Refused as refusal:
            return _denied(refusal)
        return {}

    async def _hold(self, amounts: Mapping[str, Any], name: str, tool_use_id: str) -> None:
        budget = current_budget()
        if amounts:
            self._held[tool_use_id] = await reserve(
                kind="tool",
                name=call_name(name),
                policy=self.policy,
                max_wait=self.max_wait,
                expires_in=LONGEST_CALL,
                **amounts,
            )
        elif budget is not None:
            budget.checkpoint()

    async def after(self, call: Any, tool_use_id: str | None, _context: object) -> dict[str, Any]:
        """Settle; a tool that failed is charged, too."""
        held = self._held.pop(tool_use_id or call["tool_use_id"], None)
        if held is not None:
            held.commit()
        return {}

    def deny(self, tool_use_ids: Iterable[object]) -> None:
        """Give back what was held for tools that were not let run, after all."""
        for tool_use_id in tool_use_ids:
            held = self._held.pop(str(tool_use_id), None)
            if held is not None:
                held.release()

    def end(self) -> None:
        """Charge what is still held: nobody tells any more how those tools ended."""
        while self._held:
            self._held.popitem()[1].cut(GeneratorExit())


def _denied(refusal: Exception) -> dict[str, Any]:
    text = refusal_text(refusal)
    denial = {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": text,
    }
    answer: dict[str, Any] = {"hookSpecificOutput": denial}
    if ends_run(refusal):
        answer |= {"continue_": False, "stopReason": text}
    return answer
