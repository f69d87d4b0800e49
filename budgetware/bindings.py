"""What pays beside tasks: the current principal, bound tokens, and the target of a call.

Not here: tokens (`quota_tokens`) and principals (`principals`) themselves.
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Protocol, cast

from .clock import Clock, SystemClock
from .errors import ConfigurationError, InvalidAmount
from .frames import Amounts, Frame, current, current_frame, outside
from .kernel.dims import check_name, show, to_units
from .quotas import Concurrency
from .resources import Pool
from .runtime import Runtime
from .scopes import restore
from .stakes import Draw, Stake


class HasStake(Protocol):
    """A quota token, as far as a call needs to know it."""

    @property
    def stake(self) -> Stake:
        """The right that it stands for; raises `TokenConsumed` once it is over."""
        ...

    @property
    def runtime(self) -> Runtime:
        """The service it draws in."""
        ...


Target = HasStake | str
"""What a call may draw on by name: a quota token, or a resource."""


def check_target(target: object) -> Target | None:
    """Raise `ConfigurationError` unless a call may draw on it."""
    if target is None or isinstance(getattr(type(target), "stake", None), property):
        return cast("Target | None", target)
    if isinstance(target, str):
        return check_name("resource", target)
    raise ConfigurationError(
        f"target={show(target)}: give a QuotaToken or the name of a resource; amounts are given "
        "by name, as in reserve(tokens=800)"
    )


def aim(
    frame: Frame,
    target: Target,
    amount: object,
    amounts: Amounts,
    *,
    has_model: bool,
    defaults_to_one: bool = False,
) -> tuple[Frame, Amounts]:
    """The frame and the amounts of a call that draws on `target`.

    The dollars of a call that names a model follow from that.

    Raises:
        UnknownResource, TokenConsumed, InvalidAmount: nothing has changed.
    """
    if isinstance(target, str):
        pool = frame.runtime.resources.get(target)
        goal: Pool | Stake = pool
    else:
        frame = _home(frame, target.runtime)
        goal = target.stake
        pool = goal.pool
    key = pool.definition.key
    is_given = any(dim == key for dim, _n in amounts)
    if amount is not None:
        if is_given:
            raise InvalidAmount(f"{key} is given twice: as the amount, and by name")
        amounts = ((key, to_units(pool.definition.dim or key, amount)), *amounts)
    elif not is_given and not (has_model and pool.definition.dim == "usd"):
        is_counted = pool.definition.dim in (None, "calls")
        if not isinstance(pool.definition.limit, Concurrency) and not (
            defaults_to_one and is_counted
        ):
            raise InvalidAmount(
                f"a draw on {pool.name!r} without an amount: say how many {pool.definition.units}"
            )
        amounts = ((key, 1), *amounts)
    return frame.toward(goal), amounts


def _home(frame: Frame, runtime: Runtime) -> Frame:
    """Where a token of another service is drawn on: there, unless a task of this one must pay."""
    if frame.runtime is runtime:
        return frame
    if not frame.chain and frame.principal is None:
        return outside(runtime)
    _check_clocks(frame.runtime.clock, runtime.clock)
    return frame


def _check_clocks(*clocks: Clock) -> None:
    if clocks[0] is clocks[1] or all(isinstance(clock, SystemClock) for clock in clocks):
        return
    raise ConfigurationError(
        "the token and the task belong to services with different clocks: use one service"
    )


def bind(stake: Stake, runtime: Runtime) -> None:
    """Let the calls of this context draw on it, wherever they reserve its dimension."""
    outer = current_frame()
    if not outer.chain and outer.principal is None and not outer.draws:
        outer = outside(runtime)
    _check_clocks(outer.runtime.clock, runtime.clock)
    draw = Draw(stake.pool, stake)
    others = tuple([other for other in outer.draws if other.pool is not stake.pool])
    frame = outer.at(draws=(draw, *others))
    frame.outer = (stake, current.set(frame))


def unbind(stake: Stake) -> None:
    """The opposite; where something else is current by now, only the binding goes."""
    frame = current.get(None)
    if frame is None:
        return
    if frame.outer is not None and frame.outer[0] is stake:
        token: Token[Frame] = frame.outer[1]
        restore(token)
        return
    draws = tuple([draw for draw in frame.draws if draw.stake is not stake])
    if len(draws) != len(frame.draws):
        current.set(frame.at(draws=draws))


class principal:  # noqa: N801 - used like a function, as `suppress` is
    """Make calls inside `with principal("alice"):` run on her behalf.

    Her quotas and those of her parents are charged along with the task. The innermost principal
    replaces outer ones. Also `async with`. A name that no manifest defines is a principal
    without quotas.

    Raises:
        ConfigurationError: the name is not valid, or there are too many principals.
    """

    def __init__(self, name: str, /) -> None:
        self.name = check_name("principal", name)
        self._token: Token[Frame] | None = None

    def __enter__(self) -> principal:
        if self._token is not None:
            raise ConfigurationError(
                f"principal({self.name!r}) was entered already: make a new one"
            )
        frame = current_frame()
        found = frame.runtime.principals.get(self.name)
        self._token = current.set(frame.at(principal=found))
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            restore(self._token)

    async def __aenter__(self) -> principal:
        return self.__enter__()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.__exit__(_type, _error, _trace)
