"""Every way to reserve gives a `Reservation`."""

from typing import Literal, assert_type

from budgetware import (
    Budget,
    Dim,
    Limit,
    Reservation,
    Usage,
    Verdict,
    charge,
    reserve,
    reserve_nowait,
)


async def asynchronous() -> None:
    async with reserve(tokens=800) as reservation:
        assert_type(reservation, Reservation)
        reservation.commit(Usage(input_tokens=310, output_tokens=120))
    assert_type(await reserve(calls=1, usd="0.01", expires_in=30), Reservation)


def synchronous() -> None:
    with reserve(calls=1, kind="tool", name="search") as reservation:
        assert_type(reservation, Reservation)
        reservation.record(calls=1)
    with reserve_nowait(tokens=10) as reservation:
        assert_type(reservation, Reservation)
        reservation.commit(7)
    assert_type(reserve_nowait(tokens=10), Reservation)


def settled(reservation: Reservation) -> None:
    reservation.commit({"tokens": 3, "calls": 1})
    reservation.commit(tokens=3)
    reservation.release()
    assert_type(reservation.state, Literal["held", "committed", "released", "assumed"])
    assert_type(reservation.verdict, Verdict)
    charge(tokens=5, usd="0.01")


def kernel() -> None:
    budget = Budget({Dim.TOKENS: Limit(100_000, warn=80_000), Dim.CALLS: 50})
    assert_type(budget.charge(Dim.TOKENS, 1), Verdict)
    assert_type(budget.charge_many({Dim.TOKENS: 1}), Verdict)
    assert_type(budget.peek("tokens", 1), Verdict)
    assert_type(budget.charge("tokens", 1).is_exhausted, bool)
    assert_type(Usage(input_tokens=1) + Usage.of({"prompt_tokens": 1}), Usage)


async def misuse() -> None:
    reserve(tokens=1, kind=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reserve(tokens=b"1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reserve_nowait(tokens=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
