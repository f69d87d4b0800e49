"""The local provider; tests whose framework is not installed in this environment are left out."""

import os
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.integrations.provider import Provider, serve

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM asks the internet

NEEDS = re.compile(r'^NEEDS = "([\w-]+)"$', re.MULTILINE)
"""A test module that needs a distribution says so at its top: `NEEDS = "crewai"`."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs a distribution that is not there."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    needed = NEEDS.search(collection_path.read_text(encoding="utf-8"))
    if needed is None:
        return None
    try:
        version(needed[1])
    except PackageNotFoundError:
        return True
    return None


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve() as running:
        yield running
