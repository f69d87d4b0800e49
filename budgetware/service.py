"""`connect` and `QuotaService`: what a program shares among its tasks. Not here: its faces."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .budgets import task_budget
from .clock import Clock
from .errors import ConfigurationError
from .events import Subscription
from .frames import Frame, Runtime, current, is_default, set_default
from .tasks import TaskBudget

if TYPE_CHECKING:
    from .pricing import PriceBook, PriceTable


class QuotaService:
    """The shared part of budgets: prices, strictness, listeners, telemetry.

    An async and sync context manager, entered once. The first one entered is the process-wide
    default until it closes; others are current in their own context.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._token: Token[Frame] | None = None
        self._is_open = False
        self._was_opened = False

    def task_budget(self, name: str | None = None, /, **options: Any) -> TaskBudget:
        """Make a task of this service; see `budgetware.task_budget`."""
        self._check_open()
        return task_budget(name, service=self, **options)

    def subscribe(self, maxsize: int = 1_000) -> Subscription:
        """Listen to usage events: an async iterator that keeps at most `maxsize` unread ones.

        What does not fit is counted in `.dropped`; a slow reader never delays a call.
        """
        self._check_open()
        return self.runtime.events.subscribe(maxsize)

    def _check_open(self) -> None:
        if self._was_opened and not self._is_open:
            raise ConfigurationError("the service is closed: connect() again")

    def close(self) -> None:
        """End the service: it is no longer current, and its subscriptions end."""
        if not self._is_open:
            return
        self._is_open = False
        for subscription in self.runtime.events.listeners:
            subscription.close()
        self.runtime.telemetry.close()
        if is_default(self.runtime):
            set_default(None)
        if self._token is not None:
            try:
                current.reset(self._token)
            except ValueError:  # closed in another context than it was entered in
                pass

    def __enter__(self) -> QuotaService:
        if self._was_opened:
            raise ConfigurationError("a service is entered once: connect() again")
        self._was_opened = self._is_open = True
        if not set_default(self.runtime, only_first=True):
            outer = current.get(None)
            self._token = current.set(
                Frame(self.runtime)
                if outer is None
                else Frame(self.runtime, outer.task, outer.chain, principal=outer.principal)
            )
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> QuotaService:
        return self.__enter__()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    *,
    clock: Clock | None = None,
    strict: bool = False,
    prices: PriceTable | None = None,
    tracer_provider: Any = None,
    meter_provider: Any = None,
) -> QuotaService:
    """Make a service; enter it with `async with` or `with`.

    Without one, an in-memory default serves the process.

    Args:
        clock: where time comes from; by default the system's clocks.
        strict: a reservation outside any task raises `NoBudget` instead of passing uncharged.
        prices: dollars per million tokens, `{"model": {"input": "0.15", "output": "0.60"}}`;
            asked before genai-prices.
        tracer_provider, meter_provider: OpenTelemetry's; by default the global ones.

    Raises:
        ConfigurationError: an argument is not what it should be.
    """
    _check(clock, "clock", "now_ns", "time")
    _check(tracer_provider, "tracer_provider", "get_tracer")
    _check(meter_provider, "meter_provider", "get_meter")
    _check(prices, "prices", "items")
    if type(strict) is not bool:
        raise ConfigurationError(f"strict={str(strict)[:40]!r}: give True or False")
    return QuotaService(
        Runtime(
            clock=clock,
            strict=strict,
            prices=None if prices is None else _price_book(prices),
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
        )
    )


def _check(value: object, what: str, *methods: str) -> None:
    if value is not None and not all(callable(getattr(value, name, None)) for name in methods):
        raise ConfigurationError(
            f"{what}={str(value)[:40]!r}: give an object with {' and '.join(methods)}, or None"
        )


def _price_book(table: PriceTable) -> PriceBook:
    from .pricing import PriceBook

    return PriceBook(table)
