"""A real service with a real server, in one thread, and a browser that looks at its page.

Not here: what is asserted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from budgetware import QuotaService, connect
from budgetware.admin import Key, app

PATIENCE_SECONDS = 20.0
WRITE = Key("ops", "w" * 40, access="write")
READ = Key("viewer", "r" * 40)
LOADING_FAILED = "Failed to load resource"
CLOSED = PlainTextResponse("nothing is on", 503)


def chromium() -> str:
    """Where the browser is; skip the test where it is not, but not in continuous integration."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail("chromium is not installed")
    pytest.skip("chromium is not installed")


@contextmanager
def browsing() -> Generator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        try:
            yield browser
        finally:
            browser.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {what}"
        time.sleep(0.01)


class Server:
    """One HTTP server, on the event loop of a portal."""

    def __init__(self, portal: BlockingPortal, application: ASGIApp, port: int) -> None:
        self._portal = portal
        self._server = uvicorn.Server(
            uvicorn.Config(application, port=port, log_level="critical", ws="none", lifespan="off")
        )
        self._running = portal.start_task_soon(self._server.serve)
        wait_for(lambda: self._server.started or self._running.done(), "the server")
        assert self._server.started
        self.port = int(self._server.servers[0].sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Cut all connections, as a crash does."""
        self._server.should_exit = self._server.force_exit = True
        self._running.result(PATIENCE_SECONDS)
        self._portal.call(self.cut)  # those that it has left open

    async def cut(self) -> None:
        """Cut all connections, and go on."""
        for connection in list(self._server.server_state.connections):
            connection.transport.close()


class Stage:
    """A service that is served. What runs on it runs in its thread."""

    def __init__(
        self, portal: BlockingPortal, service: QuotaService, port: int = 0, path: str = "/"
    ) -> None:
        self.portal = portal
        self.service = service
        self._port = port
        self._path = path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._path}"

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> Any:
        """Run to its end."""
        return self.portal.call(function, *args)

    def begin(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: object
    ) -> Future[Any]:
        """Let it run."""
        return self.portal.start_task_soon(function, *args)


class OwnStage(Stage):
    """One with a server of its own, which may stop and start again."""

    def __init__(
        self, portal: BlockingPortal, service: QuotaService, application: ASGIApp, path: str
    ) -> None:
        super().__init__(portal, service, path=path)
        self._application = application
        self._server: Server | None = None
        self.start()

    def start(self) -> None:
        self._server = Server(self.portal, self._application, self._port)
        self._port = self._server.port

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


class House:
    """One server for a stage after the other, each with a new service."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._application: ASGIApp = CLOSED
        self._server = Server(portal, self, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)

    @contextmanager
    def stage(self) -> Generator[Stage]:
        with self._portal.wrap_async_context_manager(connect()) as service:
            self._application = app(service)
            try:
                yield Stage(self._portal, service, self._server.port)
            finally:
                self._application = CLOSED
                self._portal.call(self._server.cut)

    def close(self) -> None:
        self._server.stop()


@contextmanager
def house() -> Generator[House]:
    with start_blocking_portal() as portal:
        made = House(portal)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def stage(
    *,
    keys: Iterable[Key] | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda application: application,
    path: str = "/",
    **settings: Any,
) -> Generator[OwnStage]:
    """Open a service, serve it with a server of its own, and close both."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        service = stack.enter_context(portal.wrap_async_context_manager(connect(**settings)))
        made = OwnStage(portal, service, wrap(app(service, keys=keys)), path)
        stack.callback(made.stop)
        yield made


@dataclass
class Visit:
    """One page in the browser, with all it has asked for and complained about."""

    page: Page
    requested: list[str] = field(default_factory=list[str])
    complaints: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_SECONDS * 1_000)
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, stage: Stage, key: Key | None = None) -> Page:
        """Load the page of a stage, and show its key where it asks for one."""
        self.page.goto(stage.url)
        if key is not None:
            self.page.locator("#key input").fill(key.secret)
            self.page.keyboard.press("Enter")
        self.page.locator("#status[data-phase=live]").wait_for()
        return self.page

    @property
    def hosts(self) -> set[str]:
        """Whom it has asked."""
        parts = map(urlsplit, self.requested)
        return {part.netloc or part.scheme for part in parts if part.scheme != "data"}

    def close(self) -> None:
        """End the visit: nothing may have gone wrong in the page."""
        self.page.context.close()
        unexpected = [said for said in self.complaints if not said.startswith(LOADING_FAILED)]
        assert unexpected == []


@contextmanager
def visiting(browser: Browser, **settings: Any) -> Generator[Visit]:
    visit = Visit(browser.new_context(**settings).new_page())
    yield visit
    visit.close()
