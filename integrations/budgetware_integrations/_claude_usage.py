"""What a session of Claude Code has used so far, as its messages tell. Not here: who pays for it.

A result reports `model_usage` and `total_cost_usd` of the whole session, subagents included. A
message of the assistant tells of one call of a model, and several with one id tell of the same:
of its prompt in full, of its answer what was counted when it began. So that is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, cast

from budgetware import Usage
from budgetware.errors import InvalidAmount

from ._model_calls import read_usage

_AXES: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_OF_MODEL: Final = (
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
)


@dataclass
class _Totals:
    """What a session says that it used; None: it did not say."""

    usage: Usage | None = None
    usd: Decimal | None = None


@dataclass
class SessionUsage:
    """Adds up what messages report; `mark` starts to count anew, as for the next query."""

    model: str | None = None
    """The model that the latest answer came from."""
    _steps: dict[str, Usage] = field(default_factory=dict[str, Usage])
    _written: dict[str, int] = field(default_factory=dict[str, int])
    _told: _Totals = field(default_factory=_Totals)
    _before: _Totals = field(default_factory=_Totals)
    _carried: _Totals = field(default_factory=_Totals)

    def mark(self) -> None:
        """Count from here on."""
        self._steps.clear()
        self._written.clear()
        told, before = self._told, self._before
        usd = before.usd if told.usd is None else told.usd
        self._before = _Totals(told.usage or before.usage, usd)
        self._told = _Totals()
        self._carried = _Totals()

    def step(self, identity: str, model: str, reported: object, written_tokens: int) -> None:
        """Take in what one call of a model has used so far, and how much of it is written here."""
        self.model = model
        usage = read_usage(reported)
        if usage is not None:
            earlier = self._steps.get(identity)
            self._steps[identity] = usage if earlier is None else earlier.highest(usage)
            self._written[identity] = self._written.get(identity, 0) + written_tokens

    def result(self, by_model: object, reported: object, usd: object) -> None:
        """Take in a result: the totals of the session, by model; without these, what it adds."""
        usage = _total(by_model)
        turn = read_usage(reported)
        if usage is None and turn is not None:
            so_far = self._told.usage or self._before.usage
            usage = _plain(turn) if so_far is None else so_far + _plain(turn)
        if usage is not None:  # it tells of all those steps
            self._steps.clear()
            self._written.clear()
        self._told = _Totals(usage or self._told.usage, _dollars(usd))

    def reset(self) -> None:
        """Take in that the session counts from zero again."""
        told = self._since()
        self._carried = _Totals(_plus(self._carried.usage, told.usage), told.usd)
        self._before = _Totals()
        self._told = _Totals()

    @property
    def has_steps(self) -> bool:
        """Whether a model has answered that no result has told of."""
        return bool(self._steps)

    @property
    def used(self) -> Usage | None:
        """What was used since the mark; None where nothing was reported."""
        used = _plus(self._carried.usage, self._since().usage)
        for identity, usage in self._steps.items():
            unsaid = self._written[identity] - usage.amounts()["output_tokens"]
            used = _plus(used, _plain(usage) + Usage(output_tokens=max(unsaid, 0)))
        return None if used is None else replace(used, model=self.model, provider="anthropic")

    @property
    def usd(self) -> Decimal | None:
        """What it cost since the mark; None where the last result did not tell."""
        return self._since().usd

    def _since(self) -> _Totals:
        """Of this session, since the mark."""
        told, before = self._told, self._before
        usage = told.usage
        if usage is not None and before.usage is not None:
            usage = _minus(usage, before.usage)
        usd = None
        if told.usd is not None:
            usd = max(told.usd - (before.usd or 0), Decimal(0)) + (self._carried.usd or 0)
        return _Totals(usage, usd)


def _plain(usage: Usage) -> Usage:
    return replace(usage, model=None, provider=None)


def _plus(usage: Usage | None, other: Usage | None) -> Usage | None:
    if usage is None or other is None:
        return usage or other
    return usage + other


def _minus(usage: Usage, other: Usage) -> Usage:
    axes = {axis: max(getattr(usage, axis) - getattr(other, axis), 0) for axis in _AXES}
    return Usage(**axes)


def _total(by_model: object) -> Usage | None:
    """All models together; None where there are none, or nonsense."""
    if not isinstance(by_model, Mapping) or not by_model:
        return None
    total = Usage()
    try:
        for usage in cast("Mapping[str, Any]", by_model).values():
            counts = [usage.get(name, 0) for name in _OF_MODEL]
            total = total + Usage(**dict(zip(_AXES, counts, strict=True)))
    except (InvalidAmount, AttributeError):
        return None
    return total


def _dollars(usd: object) -> Decimal | None:
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        return None
    dollars = Decimal(repr(usd))
    return dollars if dollars.is_finite() and dollars >= 0 else None
