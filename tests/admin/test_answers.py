"""How documents become JSON."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware.admin.answers import json_text


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_any_text_is_escaped_and_comes_back(document: dict[str, object]) -> None:
    text = json_text(document)
    assert json.loads(text) == document
    assert all(" " <= letter <= "~" and letter not in "<>&" for letter in text)


def test_money_is_a_text() -> None:
    assert json_text({"usd": Decimal("0.250000")}) == '{"usd":"0.250000"}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        json_text({"value": value})
