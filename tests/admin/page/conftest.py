"""A browser and a server for all files; a page and a service of its own for each test.

The folder is a package so that both end with its last test: others must not run beside the loop
that drives the browser.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.page.stage import PATIENCE_SECONDS, House, Stage, Visit, browsing, house, visiting

expect.set_options(timeout=PATIENCE_SECONDS * 1_000)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="package")
def served() -> Iterator[House]:
    with house() as made:
        yield made


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with visiting(browser, viewport={"width": 1280, "height": 800}) as made:
        yield made


@pytest.fixture
def here(served: House) -> Iterator[Stage]:
    """A service without keys: whoever is on this machine may do everything."""
    with served.stage() as made:
        yield made
