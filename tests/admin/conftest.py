"""A service, and its application with keys and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from budgetware import Capacity, QuotaService, Rate, Resource, admin, connect
from tests.admin.desk import KEYS


@pytest.fixture
def service() -> Iterator[QuotaService]:
    """Two resources; `alice` is below `team`, `bob` is not."""
    with connect() as connected:
        connected.define(Resource("pages", Capacity(100), "reject", unit="page", units="pages"))
        connected.define(Resource("tokens", Rate(90_000, "minute"), dim="tokens", max_wait="30s"))
        connected.define_principal("team")
        connected.define_principal("alice", parent="team", quotas={"tokens": Rate(1_000, "day")})
        connected.define_principal("bob")
        yield connected


@pytest.fixture
def app(service: QuotaService) -> Any:
    return admin.app(service, keys=KEYS)


@pytest.fixture
def open_app(service: QuotaService, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Without keys."""
    monkeypatch.delenv("BUDGETWARE_ADMIN_KEYS", raising=False)
    return admin.app(service)
