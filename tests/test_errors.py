"""The errors: their tree, fields, messages, that they survive pickle, and how to find them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from decimal import Decimal

import pytest

from budgetware import BudgetExceeded, BudgetTerminated, errors, reserve_nowait, task_budget
from budgetware.errors import (
    AlreadySettled,
    BlockingInEventLoop,
    BudgetwareError,
    ConfigurationError,
    IdempotencyConflict,
    InvalidAmount,
    LedgerUnavailable,
    ManifestError,
    NoBudget,
    QuotaExceeded,
    QuotaTokenError,
    ReservationError,
    ResourceMismatch,
    TokenConsumed,
    TokenInvalid,
    UnknownPrice,
    UnknownResource,
    budget_error,
    soft_termination,
)

TREE = {
    BudgetwareError: RuntimeError,
    ConfigurationError: BudgetwareError,
    ManifestError: ConfigurationError,
    UnknownResource: ConfigurationError,
    UnknownPrice: ConfigurationError,
    InvalidAmount: ConfigurationError,
    BudgetExceeded: BudgetwareError,
    QuotaExceeded: BudgetExceeded,
    BudgetTerminated: BudgetwareError,
    ReservationError: BudgetwareError,
    AlreadySettled: ReservationError,
    IdempotencyConflict: ReservationError,
    QuotaTokenError: BudgetwareError,
    TokenConsumed: QuotaTokenError,
    TokenInvalid: QuotaTokenError,
    ResourceMismatch: QuotaTokenError,
    LedgerUnavailable: BudgetwareError,
    NoBudget: BudgetwareError,
    BlockingInEventLoop: BudgetwareError,
}


def exceeded() -> BudgetExceeded:
    return BudgetExceeded(
        budget="research",
        budget_id="7",
        dim="usd",
        requested=Decimal("0.25"),
        available=Decimal("0.10"),
        limit=Decimal(1),
        retry_after=1.5,
    )


def quota_exceeded() -> QuotaExceeded:
    return QuotaExceeded(
        resource="openai", budget="b", dim="tokens", requested=2, available=0, retry_after=None
    )


def manifest_error() -> ManifestError:
    return ManifestError("unknown key 'limt'", file="budgetware.toml", line=7)


def terminated() -> BudgetTerminated:
    def run() -> None:
        with task_budget("work", tokens=100, usd=1) as opened:
            reserve_nowait(tokens=5).commit()
            opened.terminate("enough")

    with pytest.raises(BudgetTerminated) as caught:
        run()
    return caught.value


def refused() -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught, task_budget("work", tokens=100):
        reserve_nowait(tokens=101)
    return caught.value


def test_the_tree_is_the_contracts() -> None:
    found = {cls for cls in vars(errors).values() if isinstance(cls, type)}
    ours = {cls for cls in found if issubclass(cls, BudgetwareError)}
    assert ours == set(TREE)
    assert all(issubclass(cls, base) for cls, base in TREE.items())
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_kind_is_an_exception_an_agent_may_catch(kind: type[BaseException]) -> None:
    assert issubclass(kind, Exception)


PLAIN = [kind for kind in TREE if not issubclass(kind, BudgetExceeded | BudgetTerminated)]
MAKERS: list[Callable[[], BudgetwareError]] = [
    *[lambda kind=kind: kind("what happened") for kind in PLAIN],
    exceeded,
    quota_exceeded,
    manifest_error,
    terminated,
    refused,
]
each_error = pytest.mark.parametrize("error", [make() for make in MAKERS], ids=repr)


@each_error
def test_it_survives_pickle_with_its_fields(error: BudgetwareError) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert (str(twin), vars(twin), twin.args) == (str(error), vars(error), error.args)


@each_error
def test_it_can_be_copied(error: BudgetwareError) -> None:
    twin = copy.copy(error)
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


def test_a_pickled_snapshot_still_answers() -> None:
    twin = pickle.loads(pickle.dumps(terminated()))
    assert twin.snapshot["tokens"].spent == 5
    assert twin.snapshot["usd"].limit == Decimal(1)


def test_an_error_in_a_group_survives_pickle() -> None:
    twin = pickle.loads(pickle.dumps(ExceptionGroup("tools", [exceeded()])))
    assert twin.exceptions[0].dim == "usd"


# Messages.


def test_a_refusal_says_what_is_left_and_what_to_do() -> None:
    text = str(refused())
    assert text.startswith("budget 'work' has 100 of 100 tokens left, 101 requested: ")
    assert "ask for less" in text


def test_a_refusal_with_nothing_left_does_not_ask_for_less() -> None:
    text = str(BudgetExceeded(budget="b", dim="calls", requested=1, available=0, limit=5))
    assert text == (
        "budget 'b' has 0 of 5 calls left, 1 requested: finish without this call, or top_up "
        "the budget"
    )


def test_a_refusal_that_time_helps_says_how_long() -> None:
    assert "retry after 1.5 s" in str(exceeded())


def test_a_refusal_of_a_resource_names_it() -> None:
    assert str(quota_exceeded()).startswith("resource 'openai' has 0 tokens left")


def test_a_termination_names_task_and_reason() -> None:
    assert str(terminated()) == "task 'work' was terminated: enough"


def test_a_manifest_error_knows_where() -> None:
    error = manifest_error()
    assert (error.file, error.line) == ("budgetware.toml", 7)
    assert "limt" in str(error)


def test_a_refusal_has_every_field() -> None:
    error = refused()
    assert (error.budget, error.dim, error.requested) == ("work", "tokens", 101)
    assert (error.available, error.limit, error.retry_after) == (100, 100, None)


def test_a_refusal_in_dollars_speaks_in_dollars() -> None:
    with pytest.raises(BudgetExceeded) as caught, task_budget(usd="0.25"):
        reserve_nowait(usd="0.30")
    assert (caught.value.requested, caught.value.available) == (Decimal("0.3"), Decimal("0.25"))
    assert "0.250000 of 0.250000 usd left, 0.300000 requested" in str(caught.value)


# budget_error


def chained(
    *, cause: BaseException | None = None, context: BaseException | None = None
) -> Exception:
    outside = LookupError("tool failed")
    outside.__cause__ = cause
    outside.__context__ = context
    return outside


FOUND = exceeded()


@pytest.mark.parametrize(
    "wrapped",
    [
        FOUND,
        chained(cause=FOUND),
        chained(context=FOUND),
        chained(cause=chained(context=FOUND)),
        ExceptionGroup("tools", [KeyError("x"), FOUND]),
        BaseExceptionGroup("all", [KeyboardInterrupt(), ExceptionGroup("tools", [FOUND])]),
        chained(cause=ExceptionGroup("tools", [chained(context=FOUND)])),
        ExceptionGroup("tools", [chained(cause=KeyError("x"), context=FOUND)]),
    ],
    ids=["itself", "cause", "context", "deep", "group", "groups", "mixed", "both"],
)
def test_budget_error_finds_ours(wrapped: BaseException) -> None:
    assert budget_error(wrapped) is FOUND


@pytest.mark.parametrize(
    "other", [None, KeyError("x"), chained(cause=KeyError("x")), ExceptionGroup("g", [OSError()])]
)
def test_budget_error_finds_nothing_where_there_is_nothing(other: BaseException | None) -> None:
    assert budget_error(other) is None


def test_budget_error_ends_on_a_circle() -> None:
    first, second = LookupError("first"), LookupError("second")
    first.__context__, second.__context__ = second, first
    assert budget_error(first) is None


def test_budget_error_takes_the_nearest() -> None:
    near, far = NoBudget("near"), NoBudget("far")
    near.__cause__ = far
    assert budget_error(chained(cause=near)) is near


def test_soft_termination_is_a_block() -> None:
    with soft_termination():
        assert errors.soft.get()
    assert not errors.soft.get()
