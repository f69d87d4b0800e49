"""Opening and closing a service: its ledger, its place as the current one.

Not here: what it does.
"""

from __future__ import annotations

import atexit
from contextvars import Token
from typing import TYPE_CHECKING

from anyio import CancelScope, to_thread

from .accounts import drain
from .errors import ConfigurationError
from .frames import Frame, current
from .runtime import Runtime, is_default, set_default
from .views import close_line, put_on

if TYPE_CHECKING:
    from .manifest import Manifest


class ServiceLife:
    """Whether a service is open, and what opening and closing it takes."""

    def __init__(self, runtime: Runtime, manifest: Manifest | None) -> None:
        self.runtime = runtime
        self._manifest = manifest
        self._token: Token[Frame] | None = None
        self._is_open = False
        self._was_opened = False
        self._is_shut = False

    @property
    def is_over(self) -> bool:
        """Whether it was closed."""
        return self._was_opened and not self._is_open

    def open(self) -> None:
        """See `QuotaService.open`."""
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

    def enter(self) -> None:
        """Make it current here, and the default, where there is none."""
        frame = self._frame()
        self._is_open = True
        if not set_default(self.runtime, only_first=True) or frame is not None:
            self._token = current.set(frame or Frame(self.runtime))

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

    def close(self) -> None:
        """See `QuotaService.close`."""
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

    async def open_async(self) -> None:
        """Open the ledger without blocking the event loop; a cancellation leaves nothing open."""
        if self.runtime.shared is None:
            self.open()
            return
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

    async def close_async(self) -> None:
        """Close it without blocking the event loop."""
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
