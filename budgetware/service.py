"""`QuotaService`: what a program shares among its tasks.

Not here: making one (`connecting`), opening and closing it (`service_life`), and its faces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from .accounts import drain
from .budgets import task_budget
from .errors import ConfigurationError
from .events import Subscription
from .kernel.dims import check_name
from .pauses import pause_by_name
from .quota_tokens import QuotaToken, import_token
from .quotas import PrincipalDefinition, QuotaLimit, Resource
from .runtime import Runtime
from .service_life import ServiceLife
from .tasks import TaskBudget
from .views import (
    Changes,
    PrincipalView,
    ResourceView,
    as_quotas,
    define,
    define_principal,
    delete,
    update,
)

if TYPE_CHECKING:
    from .foreign_tasks import ForeignTask
    from .manifest import Manifest
    from .recording import Recorded, Records
    from .reports import ResourceUsage, UsageReport
    from .reports.times import Time
    from .reports.usage import Bucket
    from .task_views import TaskView


class QuotaService:
    """The shared part of budgets: prices, strictness, listeners, telemetry.

    An async and sync context manager, entered once. The first one entered is the process-wide
    default until it closes; others are current in their own context.
    """

    def __init__(self, runtime: Runtime, manifest: Manifest | None = None) -> None:
        self.runtime = runtime
        self._life = ServiceLife(runtime, manifest)

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
        with self.runtime.defining:
            return ResourceView.of(define(self.runtime, resource), self.runtime)

    def update(
        self,
        resource: Resource | str,
        /,
        *,
        expected_revision: int | None = None,
        **changes: Unpack[Changes],
    ) -> ResourceView:
        """Change a resource: in effect at once, in other processes within about a second.

        Give the whole new definition, or a name and what changes. What was used stays used, and
        a limit may go below it; its kind, `dim` and `parent` stay.

        Args:
            expected_revision: of the definition as you read it; None: whatever it is now.

        Raises:
            UnknownResource, ConfigurationError, InvalidAmount: nothing has changed.
        """
        self._check_open()
        with self.runtime.defining:
            pool = update(self.runtime, resource, dict(changes), expected_revision)
        return ResourceView.of(pool, self.runtime)

    def delete(self, name: str, /, *, expected_revision: int | None = None) -> None:
        """Take a resource out: whoever waits for it, or draws on it later, is refused.

        Raises:
            UnknownResource: there is none of that name.
            ConfigurationError: reservations of it are open, or it is a parent; nothing changed.
        """
        self._check_open()
        with self.runtime.defining:
            delete(self.runtime, name, expected_revision)

    def pause(self, name: str, seconds: float | str, /) -> None:
        """Have a resource grant nothing in this process for so long; 0 lifts any pause.

        Calls that throttle wait until its end, others get `QuotaExceeded` with `retry_after`; it
        spares no exempt principal, and ends no task. Of two pauses the one that ends later counts.
        `seconds` are up to 86,400, or a text such as `"30s"`.

        Raises:
            UnknownResource, InvalidAmount: nothing has changed.
        """
        self._check_open()
        pause_by_name(self.runtime, name, seconds)

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
        known = self.runtime.principals.find(check_name("principal", name))
        if known is not None and parent is None:
            parent = known.definition.parent
        definition = PrincipalDefinition(name, parent, as_quotas(name, quotas), exempt)
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

    # Usage.

    def report(
        self,
        principal: str | None = None,
        *,
        since: Time | None = None,
        until: Time | None = None,
        by: str | Iterable[str] = (),
        bucket: Bucket = "day",
    ) -> UsageReport:
        """Fold what was recorded into a report. Blocks on the ledger, if there is one.

        Args:
            principal: whose, those below it included; None: everybody's.
            since, until: a datetime with a time zone, seconds since the epoch, or RFC 3339; by
                default the last seven days. What happened at `until` counts, at `since` not.
            by: what groups of calls have in common: some of `principal`, `model`, `provider`,
                `kind`, `name`, `task`, `outcome`, `day`, `hour`. One process keeps 2,000 groups
                of an hour apart; what is beyond is called `other`, all but principal and outcome.
            bucket: `"day"` or `"hour"`, of UTC; at most 10,000 of them.

        Raises:
            InvalidAmount: the window ends before it begins, or another of these is wrong.
            ConfigurationError: nothing is recorded (`record_usage=False`).
            LedgerUnavailable: it did not answer.
        """
        from .reports.folding import report

        self.refresh()
        return report(self.runtime, self._records(), principal, since, until, by, bucket)

    def resource_usage(self, principal: str, /) -> ResourceUsage | None:
        """Show what a principal uses and has left now; None: it is not known.

        Blocks on the ledger, if there is one.
        """
        from .reports.resources import resource_usage

        self.refresh()
        return resource_usage(self.runtime, principal)

    def count(self, name: str, /, *, principal: str | None = None, **counts: int) -> None:
        """Add to a named counter, which is a section of reports; a zero says that there is one.

        Args:
            name: of the section, such as `"bundle_builds"`.
            principal: on whose behalf; by default the current one.
            counts: what is added, such as `requested=1`; ints, 0 or more.

        Raises:
            InvalidAmount, ConfigurationError: a name or a number is wrong; nothing was counted.
        """
        from .counters import count

        self._check_open()
        count(self.runtime, name, principal, counts)

    def recorded(
        self, *, since: Time = 0.0, until: Time | None = None, after: int = 0, limit: int = 1_000
    ) -> list[Recorded]:
        """Return recorded usage events in their JSON form, oldest first, each with its number.

        Those of all who share the ledger, which this blocks on.

        Args:
            since, until: as in `report`; by default all that are kept.
            after: only those with a higher number: the last one of the page before.
            limit: at most so many, up to 1,000.
        """
        from .reports.events import recorded

        return recorded(self._records(), since, until, after, limit)

    def last_recorded(self) -> int:
        """Return the number of the event that was recorded last; 0: there is none."""
        return self._records().last()

    def _records(self) -> Records:
        if self.runtime.shared is not None:
            self._check_open()
        if self.runtime.records is None:
            raise ConfigurationError(
                "nothing is recorded: connect() with record_usage=True, which is the default"
            )
        return self.runtime.records

    # What is there now.

    def tasks(self) -> list[TaskView]:
        """Show the tasks that run in this process, and the ledger's shared ones in use.

        Each after the one around it. Blocks on the ledger, if there is one.
        """
        from .task_views import task_views

        return task_views(self.runtime)

    def task(self, id: str, /) -> TaskBudget | ForeignTask | None:
        """Return the open task of this id, to terminate it or to top it up.

        A shared one that runs in other processes has the id `shared:<name>`, and blocks.
        """
        from .task_views import find_task

        return find_task(self.runtime, id)

    def overview(self, *, window_seconds: float = 10.0) -> dict[str, Any]:
        """Show everything at a glance, as JSON: what `top`, HTTP and the live page show.

        Blocks on the ledger, if there is one.

        Args:
            window_seconds: of the activity: calls and refusals of so many last seconds.
        """
        from .reports.overview import overview

        return overview(self, window_seconds)

    def refresh(self) -> None:
        """Take over what other processes have defined and used. Blocks on the ledger.

        A process that draws hears of it by itself; without a ledger there is nothing to do.

        Raises:
            LedgerUnavailable: it did not answer.
        """
        if self.runtime.shared is not None:
            self._check_open()
            with self.runtime.defining:
                self.runtime.shared.refresh(self.runtime.principals)

    def subscribe(self, maxsize: int = 1_000) -> Subscription:
        """Listen to usage events: an async iterator that keeps at most `maxsize` unread ones.

        What does not fit is counted in `.dropped`; a slow reader never delays a call.
        """
        self._check_open()
        return self.runtime.events.subscribe(maxsize)

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

    # Its life.

    def open(self) -> None:
        """Open the ledger, if it has one, and put the manifest into force there. Blocks.

        Entering the service does this.

        Raises:
            LedgerUnavailable, ConfigurationError: nothing is left open.
        """
        self._life.open()

    def close(self) -> None:
        """End the service: it is no longer current, and its subscriptions end.

        Where it has a ledger, what is leased goes back, which blocks for a moment.
        """
        self._life.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was entered and left."""
        return self._life.is_over

    def _check_open(self) -> None:
        if self._life.is_over:
            raise ConfigurationError("the service is closed: connect() again")

    def __enter__(self) -> QuotaService:
        self._life.open()
        self._life.enter()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._life.close()

    async def __aenter__(self) -> QuotaService:
        await self._life.open_async()
        self._life.enter()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._life.close_async()
