"""A manifest declares dimensions in the process; the tests here leave none behind."""

from collections.abc import Iterator

import pytest

from budgetware.kernel import dims


@pytest.fixture(autouse=True, scope="module")
def own_declarations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dims, "_declared", {name: name for name in dims.BUILT_IN})
        yield
