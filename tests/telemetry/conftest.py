"""A service that reports to an SDK in memory."""

from collections.abc import Iterator

import pytest

from budgetware import QuotaService, connect
from tests.telemetry.sdk import Sdk


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    made = Sdk()
    yield made
    made.close()


@pytest.fixture
def service(sdk: Sdk) -> Iterator[QuotaService]:
    with connect(**sdk.providers) as opened:
        yield opened
