"""`connect` and `QuotaService`: what a program shares among its tasks. Not here: its faces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import Token
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from . import runtime
from .budgets import task_budget
from .clock import Clock
from .errors import ConfigurationError
from .events import Subscription
from .frames import Frame, current
from .kernel.dims import check_name, show
from .quotas import PrincipalDefinition, QuotaLimit, Resource
from .runtime import Runtime, is_default, set_default
from .tasks import TaskBudget
from .views import (
    Changes,
    PrincipalView,
    ResourceView,
    as_quota,
    close_line,
    define_principal,
    delete,
    update,
)

if TYPE_CHECKING:
    from .manifest import Manifest
    from .pricing import PriceBook, PriceTable


MEMORY = "memory://"
MANIFEST_VARIABLE = "BUDGETWARE_MANIFEST"


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

    # Resources.

    def define(self, resource: Resource) -> ResourceView:
        """Add a shared resource; calls may draw on it at once.

        Raises:
            ConfigurationError: one of that name is there, or its parent counts something else.
            UnknownResource: its parent is not defined.
        """
        self._check_open()
        return ResourceView.of(self.runtime.resources.define(resource), self.runtime)

    def update(
        self,
        resource: Resource | str,
        /,
        *,
        expected_revision: int | None = None,
        **changes: Unpack[Changes],
    ) -> ResourceView:
        """Change a resource: in effect at once, and what was used stays used.

        Give the whole new definition, or a name and what changes. A limit may go below what is
        used; its kind, `dim` and `parent` stay.

        Args:
            expected_revision: of the definition as you read it; None: whatever it is now.

        Raises:
            UnknownResource, ConfigurationError, InvalidAmount: nothing has changed.
        """
        self._check_open()
        pool = update(self.runtime, resource, dict(changes), expected_revision)
        return ResourceView.of(pool, self.runtime)

    def delete(self, name: str, /, *, expected_revision: int | None = None) -> None:
        """Take a resource out: whoever waits for it, or draws on it later, is refused.

        Raises:
            UnknownResource: there is none of that name.
            ConfigurationError: reservations of it are open, or it is a parent; nothing changed.
        """
        self._check_open()
        delete(self.runtime, name, expected_revision)

    def resource(self, name: str, /) -> ResourceView:
        """Show one resource; raises `UnknownResource`."""
        return ResourceView.of(self.runtime.resources.get(name), self.runtime)

    def resources(self) -> list[ResourceView]:
        """Show all resources, by name."""
        pools = sorted(self.runtime.resources, key=lambda pool: pool.name)
        return [ResourceView.of(pool, self.runtime) for pool in pools]

    # Principals.

    def define_principal(
        self,
        name: str,
        /,
        *,
        parent: str | None = None,
        quotas: Mapping[str, QuotaLimit | Resource] | None = None,
        exempt: bool | None = None,
    ) -> PrincipalView:
        """Add a principal, or replace its quotas and exemption: in effect at once.

        Args:
            parent: whose quotas count too; it must be defined, and cannot change. None: as it
                was, for one that is known.
            quotas: by dimension, as `{"tokens": Rate(1_000_000, "day")}`; refused calls are
                rejected. A `Resource` gives another enforcement.
            exempt: True: refused by no quota of principals, rate or capacity, but counted;
                False: not, though the parent is; None: as the parent.

        Raises:
            ConfigurationError, InvalidAmount: nothing has changed.
        """
        self._check_open()
        if quotas is not None and not isinstance(quotas, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"principal {show(name)}: quotas={show(quotas)}: give limits by dimension, as "
                '{"tokens": Rate(1_000_000, "day")}'
            )
        known = self.runtime.principals.find(check_name("principal", name))
        if known is not None and parent is None:
            parent = known.definition.parent
        given = {} if quotas is None else dict(quotas)
        definition = PrincipalDefinition(
            name, parent, {dim: as_quota(name, dim, q) for dim, q in given.items()}, exempt
        )
        found = define_principal(self.runtime, definition)
        return PrincipalView.of(found, self.runtime)

    def principal(self, name: str, /) -> PrincipalView | None:
        """Show a principal; None: it is not defined, and has not been seen yet."""
        found = self.runtime.principals.find(name)
        return None if found is None else PrincipalView.of(found, self.runtime)

    def principals(self) -> list[PrincipalView]:
        """Show all principals, by name."""
        found = sorted(self.runtime.principals, key=lambda principal: principal.name)
        return [PrincipalView.of(principal, self.runtime) for principal in found]

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
        close_line(self.runtime)
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
        frame = self._frame()
        self._was_opened = self._is_open = True
        if not set_default(self.runtime, only_first=True) or frame is not None:
            self._token = current.set(frame or Frame(self.runtime))
        return self

    def _frame(self) -> Frame | None:
        """Where this context stands in it: in the same task, on behalf of the same principal."""
        outer = current.get(None)
        if outer is None:
            return None
        principal = outer.principal
        if principal is not None:
            principal = self.runtime.principals.get(principal.name)
        return Frame(
            self.runtime,
            outer.task,
            outer.chain,
            principal=principal,
            finishing=outer.finishing,
            draws=outer.draws,
        )

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
    manifest: str | PathLike[str] | None = None,
    *,
    ledger: str | None = None,
    clock: Clock | None = None,
    strict: bool | None = None,
    prices: PriceTable | None = None,
    tracer_provider: Any = None,
    meter_provider: Any = None,
) -> QuotaService:
    """Make a service; enter it with `async with` or `with`.

    Without one, an in-memory default serves the process, with the manifest that
    `BUDGETWARE_MANIFEST` names, if it is set.

    Args:
        manifest: a TOML file with resources, templates of tasks, principals and settings; what
            is given here comes before its settings.
        ledger: where shared balances live; `"memory://"`, the default, is this process.
        clock: where time comes from; by default the system's clocks.
        strict: a reservation outside any task raises `NoBudget` instead of passing uncharged.
        prices: dollars per million tokens, `{"model": {"input": "0.15", "output": "0.60"}}`;
            asked before genai-prices.
        tracer_provider, meter_provider: OpenTelemetry's; by default the global ones.

    Raises:
        ConfigurationError: an argument is not what it should be.
        ManifestError: the manifest is wrong; the message lists everything that is.
    """
    _check(clock, "clock", "now_ns", "time")
    _check(tracer_provider, "tracer_provider", "get_tracer")
    _check(meter_provider, "meter_provider", "get_meter")
    _check(prices, "prices", "items")
    if strict is not None and type(strict) is not bool:
        raise ConfigurationError(f"strict={str(strict)[:40]!r}: give True or False")
    if manifest is not None and not isinstance(manifest, str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"manifest={show(manifest)}: give the path of a TOML file")
    settings = None if manifest is None else _read(manifest)
    _check_ledger(ledger or (settings.ledger if settings is not None else MEMORY))
    if settings is not None:
        strict = settings.strict if strict is None else strict
        prices = settings.prices if prices is None else prices
    made = Runtime(
        clock=clock,
        strict=bool(strict),
        prices=None if prices is None else _price_book(prices),
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    if settings is not None:
        _put_on(made, settings)
    return QuotaService(made)


def _make_default() -> Runtime:
    """What serves a process without a service: the manifest of the environment, or nothing."""
    path = os.environ.get(MANIFEST_VARIABLE)
    return connect(path).runtime if path else Runtime()


runtime.make_default = _make_default


def _read(path: str | PathLike[str]) -> Manifest:
    from .manifest import read_manifest

    return read_manifest(path)


def _put_on(runtime: Runtime, manifest: Manifest) -> None:
    """Define what a manifest defines; parents come first there."""
    for resource in manifest.resources:
        runtime.resources.define(resource)
    for principal in manifest.principals:
        runtime.principals.define(principal)
    runtime.templates = manifest.budgets


def _check_ledger(ledger: object) -> None:
    if ledger != MEMORY:
        raise ConfigurationError(
            f"ledger={str(ledger)[:60]!r}: balances live in this process only, as yet: give "
            f"{MEMORY!r}"
        )


def _check(value: object, what: str, *methods: str) -> None:
    if value is not None and not all(callable(getattr(value, name, None)) for name in methods):
        raise ConfigurationError(
            f"{what}={str(value)[:40]!r}: give an object with {' and '.join(methods)}, or None"
        )


def _price_book(table: PriceTable) -> PriceBook:
    from .pricing import PriceBook

    return PriceBook(table)
