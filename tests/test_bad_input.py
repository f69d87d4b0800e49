"""What cannot be: a typed error that names the value and the remedy, before anything changes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest

from budgetware import (
    Budget,
    BudgetExceeded,
    BudgetwareError,
    Limit,
    Reject,
    TaskBudget,
    Terminate,
    budgeted,
    charge,
    connect,
    current_budget,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import (
    AlreadySettled,
    ConfigurationError,
    InvalidAmount,
    NoBudget,
    ReservationError,
)

HUGE = 2**53
VAST = 10**5_000
AMOUNTS: list[tuple[Any, str]] = [
    (True, "True"),
    (False, "False"),
    (1.0, "1.0"),
    (1.5, "1.5"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-1, "-1"),
    (HUGE, str(HUGE)),
    (VAST, "16610 bits"),
    ("5", "'5'"),
    ("five", "'five'"),
    (b"5", "b'5'"),
    (Decimal(5), "Decimal"),
    (None, "None"),
    ([5], r"\[5\]"),
    (5j, "5j"),
]
DOLLARS: list[tuple[Any, str]] = [
    (True, "True"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (-1, "-1"),
    (-0.01, "-0.01"),
    ("-0.01", "-0.01"),
    (Decimal("NaN"), "NaN"),
    (Decimal("sNaN"), "sNaN"),
    ("NaN", "NaN"),
    ("infinity", "infinity"),
    ("cheap", "'cheap'"),
    ("", "''"),
    ("1e300000", "1e300000"),
    (Decimal("1e-300000"), r"1E-300000"),
    (10**10, "9007199254740991"),
    (VAST, "16610 bits"),
    (b"1", "b'1'"),
    (None, "None"),
    (5j, "5j"),
]
each_amount = pytest.mark.parametrize(("amount", "shown"), AMOUNTS, ids=[s for _, s in AMOUNTS])
each_price = pytest.mark.parametrize(("amount", "shown"), DOLLARS, ids=[s for _, s in DOLLARS])


def str_of(value: object) -> str:
    return "vast" if isinstance(value, int) and abs(value) == VAST else repr(value)


@pytest.fixture
def budget() -> Iterator[TaskBudget]:
    """An open task; whatever a test does, nothing of it may have changed at the end."""
    with ExitStack() as stack:
        opened = stack.enter_context(task_budget("work", tokens=100, calls=5, usd=1, memory=10))
        before = books(opened)
        yield opened
        assert books(opened) == before


def books(budget: TaskBudget) -> object:
    return {dim: b for dim, b in budget.snapshot().dims.items() if dim != "millis"}


# Amounts.


@each_amount
def test_reserve_refuses_an_amount_that_is_none(
    amount: Any, shown: str, budget: TaskBudget
) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        reserve(calls=1, tokens=amount)
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        reserve_nowait(calls=1, tokens=amount)


@each_amount
def test_charge_refuses_an_amount_that_is_none(amount: Any, shown: str, budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        charge(calls=1, tokens=amount)
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        budget.charge(calls=1, tokens=amount)


@each_amount
def test_a_decorator_refuses_an_amount_that_is_none(amount: Any, shown: str) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        budgeted(tokens=amount)(lambda: None)


@each_amount
def test_a_limit_refuses_an_amount_that_is_none(amount: Any, shown: str) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        task_budget(tokens=amount)


@each_amount
def test_keep_refuses_an_amount_that_is_none(amount: Any, shown: str) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        task_budget(tokens=100, keep={"tokens": amount})


@each_amount
def test_top_up_refuses_an_amount_that_is_none(amount: Any, shown: str, budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
        budget.top_up(calls=1, tokens=amount)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(used, shown) for used, shown in AMOUNTS if used is not None],
    ids=[shown for used, shown in AMOUNTS if used is not None],
)
def test_commit_and_record_refuse_an_amount_that_is_none(amount: Any, shown: str) -> None:
    with task_budget("work", tokens=100, calls=5) as budget:
        reservation = reserve_nowait(tokens=30)
        for report in (reservation.commit, reservation.record):
            with pytest.raises(InvalidAmount, match=f"tokens.*{shown}"):
                report(tokens=amount)
            with pytest.raises(InvalidAmount):
                report(amount)
        assert reservation.state == "held"
        assert budget.snapshot()["tokens"].reserved == 30
        reservation.commit()
        assert budget.spent("tokens") == 30


@each_price
def test_dollars_that_are_none_are_refused(amount: Any, shown: str, budget: TaskBudget) -> None:
    for call in (reserve, reserve_nowait, charge, task_budget, budget.top_up):
        with pytest.raises(InvalidAmount, match=f"usd.*{shown}"):
            call(usd=amount)
    with pytest.raises(InvalidAmount, match=f"usd.*{shown}"):
        budgeted(usd=amount)(lambda: None)


@pytest.mark.parametrize(
    "seconds",
    [0, -1, True, math.nan, math.inf, "", "soon", "2 minutes", "5", None, 1e12, VAST, -VAST],
    ids=str_of,
)
def test_seconds_that_are_none_are_refused(seconds: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"seconds.*'30s'"):
        task_budget(seconds=seconds)


@pytest.mark.parametrize("expires_in", [0, -1, True, math.nan, "soon", 1e12])
def test_an_expiry_that_is_none_is_refused(expires_in: Any, budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match="expires_in"):
        reserve_nowait(tokens=1, expires_in=expires_in)


def test_nothing_to_hold_is_refused(budget: TaskBudget) -> None:
    for call, example in (
        (reserve, "reserve"),
        (reserve_nowait, "reserve"),
        (charge, "charge"),
        (budget.charge, "charge"),
        (budget.top_up, "top_up"),
    ):
        with pytest.raises(InvalidAmount, match=rf"{example}\(.*="):
            call()


# Dimensions.


def decorate(**amounts: Any) -> object:
    return budgeted(**amounts)(len)


CALLS: list[Callable[..., object]] = [reserve_nowait, charge, decorate]


@pytest.mark.parametrize("call", CALLS, ids=["reserve", "charge", "budgeted"])
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("token", "tokens"),
        ("toekns", "tokens"),
        ("call", "calls"),
        ("input_token", "input_tokens"),
        ("Tokens", "tokens"),
        ("usd_micros", "usd"),
        ("custom_0", "custom0"),
    ],
)
def test_a_misspelt_dimension_is_refused_with_the_nearest_name(
    call: Callable[..., object], name: str, near: str, budget: TaskBudget
) -> None:
    amounts: dict[str, Any] = {name: 1}
    with pytest.raises(
        InvalidAmount, match=f"^unknown dimension '{name}'; did you mean '{near}'\\?$"
    ):
        call(**amounts)


@pytest.mark.parametrize(("name", "near"), [("token", "tokens"), ("cals", "calls")])
def test_a_misspelt_limit_is_refused_with_the_nearest_name(
    name: str, near: str, budget: TaskBudget
) -> None:
    limits: dict[str, Any] = {name: 10}
    for call in (task_budget, budget.top_up):
        with pytest.raises(InvalidAmount, match=f"'{name}'; did you mean '{near}'"):
            call(**limits)
    with pytest.raises(InvalidAmount, match=f"did you mean '{near}'"):
        Budget({name: 10})


@pytest.mark.parametrize("name", ["Widgets", "9lives", "a-b", "a b", "é", "x" * 65, ""])
def test_a_name_that_can_be_no_dimension_is_refused(name: str, budget: TaskBudget) -> None:
    amounts: dict[str, Any] = {name: 1}
    with pytest.raises(InvalidAmount, match="unknown dimension"):
        reserve_nowait(**amounts)
    with pytest.raises(InvalidAmount, match="unknown dimension"):
        task_budget(**amounts)


def test_a_dimension_nobody_declared_says_how_to(budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match="limit it in a task_budget"):
        reserve_nowait(zebras_seen=1)


@pytest.mark.parametrize("call", CALLS, ids=["reserve", "charge", "budgeted"])
def test_millis_cannot_be_reserved(call: Callable[..., object], budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match=r"millis.*seconds="):
        call(millis=5)


def test_a_balance_of_no_dimension_is_refused(budget: TaskBudget) -> None:
    for look in (budget.spent, budget.remaining, budget.snapshot().__getitem__):
        with pytest.raises(InvalidAmount, match="did you mean 'tokens'"):
            look("token")


# Limits.


def test_no_limit_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"task_budget\(tokens="):
        task_budget()


def test_a_name_that_is_no_template_is_refused() -> None:
    task = task_budget("research")
    with pytest.raises(ConfigurationError, match=r"no limit.*\[budgets\.research\]"):
        task.__enter__()
    assert current_budget() is None


@pytest.mark.parametrize("zero", [0, Limit(0)], ids=["int", "Limit"])
def test_a_limit_of_zero_is_refused(zero: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"tokens.*0"):
        task_budget(tokens=zero)
    with pytest.raises(InvalidAmount, match=r"usd.*0"):
        task_budget(usd=zero)


def test_a_limit_below_a_micro_dollar_is_refused() -> None:
    with pytest.raises(InvalidAmount, match="usd"):
        task_budget(usd="0.0000001")


@pytest.mark.parametrize("warn", [100, 101])
def test_a_warning_that_is_not_below_the_limit_is_refused(warn: int) -> None:
    with pytest.raises(InvalidAmount, match="below limit 100"):
        task_budget(tokens=Limit(100, warn=warn))


@pytest.mark.parametrize("warn_at", [0, 1, 1.5, -0.1, True, math.nan, "80%", VAST], ids=str_of)
def test_a_share_that_is_none_is_refused(warn_at: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"warn_at=.*between 0 and 1"):
        task_budget(tokens=100, warn_at=warn_at)


@pytest.mark.parametrize("warn", [120, "2m", -1, "soon", True, 0])
def test_a_warning_of_seconds_that_is_none_is_refused(warn: Any) -> None:
    with pytest.raises(InvalidAmount):
        task_budget(seconds=Limit(120, warn=warn))


def test_a_warning_of_seconds_may_be_a_text() -> None:
    with task_budget(seconds=Limit("2m", warn="90s")) as budget:
        assert budget.snapshot()["millis"].warn == 90_000


def test_seconds_and_millis_are_one_limit() -> None:
    with pytest.raises(InvalidAmount, match="give one of them"):
        task_budget(seconds=1, millis=1_000)


@pytest.mark.parametrize(
    ("keep", "named"),
    [
        ({"tokens": 100}, "below the limit"),
        ({"calls": 1}, "'calls' has no limit"),
        ({"token": 1}, "'token'"),
        ({"memory": 1}, "memory is a level"),
    ],
    ids=["all", "unlimited", "misspelt", "memory"],
)
def test_a_keep_that_cannot_be_is_refused(keep: Any, named: str) -> None:
    with pytest.raises(InvalidAmount, match=named):
        task_budget(tokens=100, memory=10, keep=keep)


def test_a_user_may_not_name_more_dimensions_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("budgetware.kernel.dims.MAX_USER_DIMS", 0)
    with pytest.raises(InvalidAmount, match="one_too_many"):
        task_budget(one_too_many=1)


# Settling.


def test_committing_twice_with_other_numbers_is_refused() -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.commit(10)
        with pytest.raises(AlreadySettled, match=r"committed at .*10.* once"):
            reservation.commit(11)
        assert budget.spent("tokens") == 10


def test_a_commit_after_a_release_is_refused() -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.release()
        with pytest.raises(AlreadySettled, match="released"):
            reservation.commit(11)
        assert budget.spent("tokens") == 0


@pytest.mark.parametrize(
    ("used", "named"),
    [
        ({"calls": 1}, "holds tokens; hold calls too"),
        ({"token": 1}, "did you mean 'tokens'"),
        ({"tokens": 5, "calls": 1}, "hold calls too"),
        ({"zebras_seen": 1}, "unknown dimension"),
        ({"millis": 5}, "millis"),
        ({"calls": VAST}, "calls=an int of 16610 bits"),
    ],
    ids=["unheld", "misspelt", "one of two", "undeclared", "millis", "vast"],
)
def test_a_commit_of_what_is_not_held_is_refused(used: dict[str, Any], named: str) -> None:
    with task_budget(tokens=100, calls=5) as budget:
        reservation = reserve_nowait(tokens=30)
        for report in (reservation.commit, reservation.record):
            with pytest.raises(InvalidAmount, match=named):
                report(used)
            with pytest.raises(InvalidAmount, match=named):
                report(**used)
        assert reservation.state == "held"
        assert (budget.spent("tokens"), budget.spent("calls")) == (0, 0)
        reservation.release()


def test_a_bare_number_for_several_dimensions_is_refused() -> None:
    with task_budget(tokens=100, calls=5):
        reservation = reserve_nowait(tokens=30, calls=1)
        for used in (5, VAST):
            with pytest.raises(InvalidAmount, match=r"tokens, calls\); name one"):
                reservation.commit(used)
        assert reservation.state == "held"
        reservation.release()


def test_an_amount_given_twice_is_refused() -> None:
    with task_budget(tokens=100):
        reservation = reserve_nowait(tokens=30)
        with pytest.raises(InvalidAmount, match="not both"):
            reservation.commit(5, tokens=5)
        reservation.release()


@pytest.mark.parametrize("used", [..., "12", b"12", [12], {"text": "hi"}], ids=repr)
def test_a_report_without_usage_is_refused(used: object) -> None:
    with task_budget(tokens=100):
        reservation = reserve_nowait(tokens=30)
        with pytest.raises(InvalidAmount):
            reservation.commit(used)
        assert reservation.state == "held"
        reservation.release()


def test_a_record_of_nothing_is_refused() -> None:
    with task_budget(tokens=100) as budget:
        with reserve(tokens=30) as reservation, pytest.raises(InvalidAmount):
            reservation.record()
        assert reservation.state == "assumed"
        assert budget.spent("tokens") == 30


async def test_a_settle_that_raises_loses_nothing() -> None:
    @budgeted(tokens=30, settle=lambda reply: reply.usage)
    async def think() -> str:
        return "no usage on a str"

    async with task_budget(tokens=100) as budget:
        with pytest.raises(AttributeError, match="usage"):
            await think()
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.reserved, shown.assumed) == (30, 0, 30)


@pytest.mark.parametrize("answer", [-1, 1.5, True, "12", {"token": 1}, ...], ids=repr)
async def test_a_settle_that_answers_nonsense_is_seen_and_loses_nothing(answer: Any) -> None:
    @budgeted(tokens=30, settle=lambda _reply: answer)
    async def think() -> str:
        return "reply"

    async with task_budget(tokens=100) as budget:
        with pytest.raises(InvalidAmount):
            await think()
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.reserved, shown.assumed) == (30, 0, 30)


def test_an_on_error_that_answers_nonsense_charges() -> None:
    def answer(_error: Exception) -> Any:
        return "refund"

    with task_budget(tokens=100) as budget:
        with pytest.raises(LookupError), reserve(tokens=30, on_error=answer):
            raise LookupError
        assert budget.spent("tokens") == 30


# Where calls stand.


async def test_outside_any_task_a_call_passes_and_charges_nothing() -> None:
    async with reserve(tokens=30) as reservation:
        assert current_budget() is None
        reservation.commit(10)
    assert reservation.state == "committed"
    assert charge(tokens=5).name == "continue"


async def test_outside_any_task_a_strict_service_refuses() -> None:
    async with connect(strict=True):
        with pytest.raises(NoBudget, match=r"outside any task.*task_budget"):
            await reserve(tokens=30)


async def test_a_task_entered_twice_is_refused() -> None:
    budget = task_budget("work", tokens=100)
    async with budget:
        with pytest.raises(ConfigurationError, match=r"'work'.*make a new one"):
            await budget.__aenter__()
        reserve_nowait(tokens=5).commit()
        assert current_budget() is budget
    with pytest.raises(ConfigurationError, match="entered already"):
        budget.__enter__()
    assert budget.spent("tokens") == 5


def test_a_task_inside_a_generator_is_refused() -> None:
    def steps() -> Iterator[int]:
        with task_budget("work", tokens=100):
            yield 1

    with pytest.raises(ConfigurationError, match=r"generator 'steps'.*decorate"):
        next(steps())
    assert current_budget() is None


async def test_a_task_inside_an_async_generator_is_refused() -> None:
    async def steps() -> AsyncIterator[int]:
        async with task_budget("work", tokens=100):
            yield 1

    with pytest.raises(ConfigurationError, match=r"generator 'steps'.*decorate"):
        await anext(steps())
    assert current_budget() is None


async def test_a_reservation_that_was_not_entered_cannot_settle() -> None:
    async with task_budget(tokens=100):
        reservation = reserve(tokens=30)
        with pytest.raises(ReservationError, match="enter it"):
            reservation.commit(5)
        (await reservation).release()


# Options.


@pytest.mark.parametrize("patience", [0, -1, True, 1.5, "3"])
def test_a_patience_that_is_none_is_refused(patience: Any) -> None:
    with pytest.raises(InvalidAmount, match="patience"):
        Reject(patience=patience)


@pytest.mark.parametrize("seconds", [-1, True, math.nan, math.inf, None])
def test_a_settle_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidAmount, match="settle_seconds"):
        Terminate(settle_seconds=seconds)


@pytest.mark.parametrize("policy", ["throw", "Reject", 5, Reject, ...], ids=repr)
def test_a_policy_that_is_none_is_refused(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match="policy="):
        task_budget(tokens=100, policy=policy)
    with pytest.raises(ConfigurationError, match="policy="):
        reserve(tokens=1, policy=policy)


def test_an_on_warn_that_cannot_be_called_is_refused() -> None:
    word: Any = "log"
    with pytest.raises(ConfigurationError, match=r"on_warn='log'.*callable"):
        task_budget(tokens=100, on_warn=word)


@pytest.mark.parametrize("principal", ["", "a b", "a/b", 5])
def test_a_principal_that_is_none_is_refused(principal: Any) -> None:
    with pytest.raises(ConfigurationError, match="principal"):
        task_budget(tokens=100, principal=principal)


@pytest.mark.parametrize(
    "options",
    [{"kind": "model"}, {"name": "two words"}, {"on_error": "refund"}, {"model": "a\nb"}],
    ids=lambda options: next(iter(options)),
)
def test_options_of_a_reserve_that_are_none_are_refused(options: Any, budget: TaskBudget) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        reserve_nowait(tokens=1, **options)


def test_every_refusal_of_input_is_ours_and_a_value_error() -> None:
    assert issubclass(InvalidAmount, BudgetwareError)
    assert issubclass(InvalidAmount, ValueError)
    assert not issubclass(InvalidAmount, BudgetExceeded)
