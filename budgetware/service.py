"""`QuotaService`: what a program shares among its tasks.

Not here: making one (`connecting`), and its faces.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from anyio import CancelScope, to_thread

from .accounts import drain
from .budgets import task_budget
from .errors import ConfigurationError
from .events import Subscription
from .frames import Frame, current
from .kernel.dims import check_name, show
from .quota_tokens import QuotaToken, import_token
from .quotas import PrincipalDefinition, QuotaLimit, Resource
from .runtime import Runtime, is_default, set_default
from .tasks import TaskBudget
from .views import (
    Changes,
    PrincipalView,
    ResourceView,
    as_quota,
    close_line,
    define,
    define_principal,
    delete,
    put_on,
    update,
)

if TYPE_CHECKING:
    from .manifest import Manifest


class QuotaService:
    """The shared part of budgets: prices, strictness, listeners, telemetry.

    An async and sync context manager, entered once. The first one entered is the process-wide
    default until it closes; others are current in their own context.
    """

    def __init__(self, runtime: Runtime, manifest: Manifest | None = None) -> None:
        self.runtime = runtime
        self._manifest = manifest
        self._token: Token[Frame] | None = None
        self._is_open = False
        self._was_opened = False
        self._is_shut = False

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
        return ResourceView.of(define(self.runtime, resource), self.runtime)

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

    # Tokens.

    def import_token(self, text: str, /, *, audience: str | None = None) -> QuotaToken:
        """Take a token that `QuotaToken.export` moved out: once, among all who share the ledger.

        Services that share keys but no ledger cannot tell that the other has taken it: export for
        one of them by its `audience`.

        Args:
            audience: who is asking, as the exporter calls it. Needed where the token names one.

        Raises:
            TokenInvalid: it was not signed by a key of this service, was changed, has expired, or
                is for somebody else.
            UnknownResource, ResourceMismatch: its resource is not here, or counts something else.
            TokenConsumed: it was imported before.
            ConfigurationError: the service has no keys; see `connect(token_keys=…)`.
            LedgerUnavailable: it is not known whether it was taken.
        """
        self._check_open()
        return import_token(text, self.runtime, audience)

    def subscribe(self, maxsize: int = 1_000) -> Subscription:
        """Listen to usage events: an async iterator that keeps at most `maxsize` unread ones.

        What does not fit is counted in `.dropped`; a slow reader never delays a call.
        """
        self._check_open()
        return self.runtime.events.subscribe(maxsize)

    def _check_open(self) -> None:
        if self._was_opened and not self._is_open:
            raise ConfigurationError("the service is closed: connect() again")

    def flush(self) -> None:
        """Have the ledger told of all that has ended by now; blocks until it has it.

        Without a ledger there is nothing to do. In async code, call it in a worker thread.

        Raises:
            LedgerUnavailable: it did not answer; it is told later.
        """
        self._check_open()
        if self.runtime.shared is not None:
            drain()
            self.runtime.shared.flush()

    def close(self) -> None:
        """End the service: it is no longer current, and its subscriptions end.

        Where it has a ledger, what is leased goes back, which blocks for a moment.
        """
        if self._is_open:
            self._leave()
            self._shut()

    def _leave(self) -> None:
        """End it in this process."""
        self._is_open = False
        close_line(self.runtime)
        for listener in self.runtime.events.listeners:
            listener.close()
        self.runtime.telemetry.close()
        self.runtime.stop_sharing()
        if is_default(self.runtime):
            set_default(None)
        if self._token is not None:
            try:
                current.reset(self._token)
            except ValueError:  # closed in another context than it was entered in
                pass

    def _shut(self) -> None:
        """Part from the ledger. Blocks."""
        self._is_shut = True
        shared = self.runtime.shared
        if shared is not None:
            drain()
            shared.close()
            atexit.unregister(shared.close)

    def open(self) -> None:
        """Open the ledger, if it has one, and put the manifest into force there. Blocks.

        Entering the service does this.

        Raises:
            LedgerUnavailable, ConfigurationError: nothing is left open.
        """
        if self._was_opened:
            raise ConfigurationError("a service is entered once: connect() again")
        self._was_opened = True
        shared, manifest = self.runtime.shared, self._manifest
        if shared is None:
            return
        shared.open()
        atexit.register(shared.close)  # a program may end without closing it
        try:
            if manifest is not None:
                put_on(self.runtime, manifest)
            principals = self.runtime.principals
            shared.take_in_principals(principals)
            principals.look_elsewhere = lambda name: shared.find_principal(principals, name)
        except BaseException:
            shared.close()
            raise

    def _enter(self) -> None:
        """Make it current here, and the default, where there is none."""
        frame = self._frame()
        self._is_open = True
        if not set_default(self.runtime, only_first=True) or frame is not None:
            self._token = current.set(frame or Frame(self.runtime))

    def __enter__(self) -> QuotaService:
        self.open()
        self._enter()
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
        if self.runtime.shared is None:
            self.open()
        else:
            await self._open_in_thread()
        self._enter()
        return self

    async def _open_in_thread(self) -> None:
        """Open the ledger without blocking the event loop; a cancellation leaves nothing open."""
        opened: list[bool] = []
        left: list[bool] = []
        try:
            await to_thread.run_sync(self._open_noting, opened, left)
        except BaseException:  # a native cancellation does not wait for the thread
            left.append(True)
            if opened:
                self._shut()
            raise

    def _open_noting(self, opened: list[bool], left: list[bool]) -> None:
        self.open()
        opened.append(True)
        if left:
            self._shut()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if not self._is_open:
            return
        self._leave()
        if self.runtime.shared is not None:
            try:
                with CancelScope(shield=True):
                    await to_thread.run_sync(self._shut)
            except BaseException:  # a native cancellation, which may come before the thread
                if not self._is_shut:
                    self._shut()
                raise
