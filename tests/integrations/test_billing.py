"""Which failures are free: those a provider has surely not billed."""

import socket

import pytest

from budgetware import BudgetExceeded
from budgetware.errors import UnknownPrice
from budgetware_integrations._billing import Billing, StreamError, is_free, status_of


class ConnectError(Exception):
    """As of httpx: told apart by its name, for there are several of it."""


class WithStatus(Exception):
    def __init__(self, status: object) -> None:
        self.status_code = status


class WithResponse(Exception):
    def __init__(self, status: int) -> None:
        self.response = WithStatus(status)


def caused(cause: BaseException) -> Exception:
    try:
        raise RuntimeError from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (WithStatus(400), True),
        (WithStatus(429), True),
        (WithStatus(500), True),
        (WithStatus(529), True),
        (WithResponse(404), True),
        (WithStatus(504), False),
        (WithStatus(408), False),
        (WithStatus(200), False),
        (ConnectError(), True),
        (caused(ConnectError()), True),
        (caused(caused(WithStatus(429))), True),
        (caused(TimeoutError()), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (ConnectionRefusedError(), True),
        (socket.gaierror(), True),
        (StreamError(), False),
        (UnknownPrice("no price"), True),
        (BudgetExceeded(budget="b", dim="tokens", requested=1, available=0, limit=0), True),
        (ValueError(), False),
        (WithStatus(True), False),
        (WithStatus("429"), False),
    ],
)
def test_free_or_not(error: Exception, free: bool) -> None:
    assert is_free(error) is free
    assert Billing()(error) == ("release" if free else "charge")


def test_an_endless_chain_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not is_free(first)


def test_what_was_never_sent_is_free_whatever_failed() -> None:
    billing = Billing()
    billing.is_sent = False
    assert billing(TimeoutError()) == "release"


def test_an_attempt_without_an_answer_is_charged_whatever_the_next_one_says() -> None:
    billing = Billing()
    billing.sending()
    billing.sending()
    billing.answered(429)
    assert billing(WithStatus(429)) == "charge"


def test_attempts_that_all_failed_alike_book_what_the_last_one_says() -> None:
    billing = Billing()
    for _ in range(3):
        billing.sending()
    assert billing(ConnectionRefusedError()) == "release"
    assert billing(TimeoutError()) == "charge"


def test_an_attempt_that_was_sent_is_charged_though_the_next_one_finds_nobody() -> None:
    billing = Billing()
    billing.sending()
    billing.left()
    billing.sending()
    assert billing(ConnectionRefusedError()) == "charge"


def test_attempts_whose_failures_are_known_count_each() -> None:
    timed_out, refused = Billing(), Billing()
    timed_out.failed(TimeoutError())
    for billing in (timed_out, refused):
        billing.failed(ConnectionRefusedError())
        billing.failed(WithStatus(429))
    assert timed_out(WithStatus(429)) == "charge"
    assert refused(WithStatus(429)) == "release"


def test_a_status_is_a_number_of_http() -> None:
    assert status_of(WithStatus(99)) is None
    assert status_of(WithStatus(599)) == 599
