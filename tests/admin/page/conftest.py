"""A browser for each file, and a page in it for each test."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.admin.page.stage import PATIENCE_SECONDS, Stage, Visit, browsing, stage, visiting

expect.set_options(timeout=PATIENCE_SECONDS * 1_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with visiting(browser, viewport={"width": 1280, "height": 800}) as made:
        yield made


@pytest.fixture
def here() -> Iterator[Stage]:
    """A service without keys: whoever is on this machine may do everything."""
    with stage() as made:
        yield made
