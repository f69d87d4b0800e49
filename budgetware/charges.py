"""`charge`: book what has already happened. Not here: how (`requests`)."""

from __future__ import annotations

from .amounts import Price
from .frames import current_frame
from .kernel.verdict import Verdict
from .requests import book


def charge(**amounts: Price) -> Verdict:
    """Book what has already happened, on the current task and its ancestors.

    Never refused, so it may leave debt, which refuses the next reservation. One event. Outside
    any task nobody pays, also in strict mode: it has happened.

    Returns:
        The verdict of the worst payer: `exhausted` where this left debt.

    Raises:
        InvalidAmount: nothing has changed.
    """
    return book(current_frame(), amounts)
