"""One query of Claude Code: what it holds while it runs, and what it is settled to.

Not here: its tools (`_claude_tools`), and how usage is added up (`_claude_usage`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, Literal, cast

from budgetware import BudgetwareError, Reservation, Usage, charge, current_budget, reserve
from budgetware.errors import ConfigurationError

from ._billing import BILLED_STATUSES
from ._claude_tools import ToolHooks
from ._claude_usage import SessionUsage
from ._estimates import DEFAULT_OUTPUT_TOKENS, estimate_tokens

_sdk: Any = import_module("claude_agent_sdk")

_SMALLEST_USD: Final = Decimal("0.000001")
_LONGEST_QUERY: Final = "24h"

_log = logging.getLogger("budgetware.integrations")


@dataclass
class _Outcome:
    """Answers `on_error`: nothing was paid for where Claude Code never said a word."""

    is_begun: bool = False

    def __call__(self, _error: Exception) -> Literal["charge", "release"]:
        return "charge" if self.is_begun else "release"


@dataclass
class QuerySpending:
    """Holds for one query after the other of a session.

    tokens: held at a time.
    policy: as of `reserve`.
    hooks: of the same session.
    """

    tokens: int
    policy: Any
    hooks: ToolHooks
    _session: SessionUsage = field(default_factory=SessionUsage)
    _outcome: _Outcome = field(default_factory=_Outcome)
    _reservation: Reservation | None = None
    _more: list[Reservation] = field(default_factory=list[Reservation])
    _held_tokens: int = 0
    _ends_with_result: bool = True

    def __post_init__(self) -> None:
        tokens: object = self.tokens
        if type(tokens) is not int or tokens < 1:
            raise ConfigurationError(
                f"tokens={tokens!r}: give an int of 1 or more, for no answer is free"
            )

    async def start(self, prompt: object, options: Any) -> None:
        """Hold for a query, of `usd` the `max_budget_usd` of its options.

        One that is sent while another runs is part of that.
        """
        if self._reservation is not None:
            return
        self._session.mark()
        self._outcome = _Outcome()
        self._ends_with_result = isinstance(prompt, str)
        asked = estimate_tokens([prompt, options.system_prompt]) if isinstance(prompt, str) else 0
        self._held_tokens = max(_at_most(self.tokens), asked + 1)
        self._reservation = await reserve(
            policy=self.policy,
            on_error=self._outcome,
            kind="llm",
            name="query",
            model=options.model,
            provider="anthropic",
            expires_in=_LONGEST_QUERY,
            calls=1,
            tokens=self._held_tokens,
            input_tokens=asked,
            output_tokens=DEFAULT_OUTPUT_TOKENS,
            usd=0 if options.max_budget_usd is None else options.max_budget_usd,
        )

    async def see(self, message: Any) -> None:
        """Take in a message; hold more where the answers need it, settle with the result."""
        self._outcome.is_begun = True
        session = self._session
        if isinstance(message, _sdk.AssistantMessage):
            identity = message.message_id or message.uuid or str(id(message))
            session.step(identity, message.model, message.usage, _written_in(message))
            await self._extend()
        elif isinstance(message, _sdk.ConversationResetMessage):
            session.reset()
        elif isinstance(message, _sdk.ResultMessage):
            session.result(message.model_usage, message.usage, message.total_cost_usd)
            self.hooks.deny(_denied_by(message))
            if self._ends_with_result:
                self._settle(message)

    async def _extend(self) -> None:
        """Hold as much again, as often as the answers so far need it."""
        used, reservation = self._session.used, self._reservation
        if used is None or reservation is None:
            return
        self._book(reservation.record, used)
        while used.total_tokens > self._held_tokens:
            tokens = max(_at_most(self.tokens), 1)
            more = reserve(policy=self.policy, expires_in=_LONGEST_QUERY, tokens=tokens)
            self._more.append(await more)
            self._held_tokens += tokens

    def end(self, error: BaseException | None = None) -> None:
        """Settle what no result has settled; the second time does nothing.

        Args:
            error: what ended it before its end; a `GeneratorExit` where the consumer left.
        """
        self.hooks.end()
        reservation = self._reservation
        if reservation is None:
            self._charge_rest()
        elif error is None:
            self._settle(None)
        else:
            used = self._known()
            if used is not None:
                self._book(reservation.record, used)
            self._let_go()
            reservation.cut(error)

    def _settle(self, result: Any) -> None:
        """Book what is known, at the end of a query or of what came after one."""
        reservation, used = self._reservation, self._known()
        if reservation is None:
            self._charge_rest()
            return
        self._let_go()
        if used is not None:
            self._book(reservation.commit, used)
        elif result is not None and self._is_free(result):
            reservation.release()
        if reservation.state == "held":
            with reservation:
                pass
        self._session.mark()

    def _let_go(self) -> None:
        self._reservation = None
        while self._more:
            self._more.pop().release()

    def _known(self) -> Usage | dict[str, Any] | None:
        """What it used, with its cost where that was reported."""
        used, usd = self._session.used, self._session.usd
        if used is None or usd is None:
            return used
        return {**used.amounts(), "usd": usd}

    def _is_free(self, result: Any) -> bool:
        """Say whether a result without usage tells that there was none."""
        status = result.api_error_status
        if result.is_error and status is not None:
            return status >= 400 and status not in BILLED_STATUSES
        return self._session.usd == 0 and not self._session.has_steps

    def _charge_rest(self) -> None:
        """Book what was used after the result, as by agents in the background."""
        used, usd = self._session.used, self._session.usd
        if used is not None:
            charge(**used.amounts(), **({} if usd is None else {"usd": usd}))
            self._session.mark()

    @staticmethod
    def _book(settle: Callable[[Any], object], used: object) -> None:
        try:
            settle(used)
        except BudgetwareError as error:
            _log.warning("usage of a query was not booked: %s", error)


def _written_in(message: Any) -> int:
    """About how many tokens of the answer a message has."""
    parts = [
        getattr(block, name, None)
        for block in message.content
        for name in ("text", "thinking", "input")
    ]
    return estimate_tokens(parts)


def most_usd(options: Any) -> Decimal | None:
    """What a query may cost: what the tasks around it have left, and its options allow."""
    own = None if options.max_budget_usd is None else Decimal(repr(options.max_budget_usd))
    least = min((usd for usd in (own, _left("usd")) if usd is not None), default=None)
    return None if least is None else max(Decimal(least), _SMALLEST_USD)


def _at_most(tokens: int) -> int:
    left = _left("tokens")
    return tokens if left is None else min(tokens, int(left))


def _left(dim: str) -> int | Decimal | None:
    """What the tasks around this have left; None where none of them limits it."""
    amounts: list[int | Decimal] = []
    budget = current_budget()
    while budget is not None:
        left = budget.remaining(dim)
        if left is not None:
            amounts.append(left)
        budget = budget.parent
    return min(amounts, default=None)


def _denied_by(result: Any) -> list[object]:
    """The tools that permissions denied, after the hooks had let them through."""
    denials = [d for d in result.permission_denials or [] if isinstance(d, dict)]
    return [cast("dict[str, object]", denial).get("tool_use_id") for denial in denials]
