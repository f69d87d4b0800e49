"""A store and a crew for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.crew import Crew
from tests.chaos.stores import STORES, Store, store_of


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Store]:
    with store_of("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Store]:
    with store_of("valkey", tmp_path) as made:
        yield made


@pytest.fixture
def crew(store: Store, tmp_path: Path) -> Iterator[Crew]:
    with Crew(tmp_path) as made:
        yield made
