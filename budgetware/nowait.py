"""`reserve_nowait`: hold now or raise. Not here: reservations themselves (`reservations`)."""

from __future__ import annotations

from .amounts import Price
from .bindings import Target
from .calls import OnError
from .policies import PolicyLike
from .reservations import Reservation


def reserve_nowait(
    target: Target | None = None,
    amount: Price | None = None,
    /,
    *,
    policy: PolicyLike = None,
    on_error: OnError = "charge",
    kind: str | None = None,
    name: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    expires_in: float | str | None = None,
    idempotency_key: str | None = None,
    **amounts: Price,
) -> Reservation:
    """Hold amounts now or raise at once; the twin of `await reserve(...)` that never waits.

    Where that would wait, `QuotaExceeded` says when to try again. Arguments and errors as
    `reserve`. The reservation is itself a context manager.
    """
    return Reservation(
        target, amount, policy=policy, max_wait=None, on_error=on_error, kind=kind, name=name,
        model=model, provider=provider, expires_in=expires_in, idempotency_key=idempotency_key,
        **amounts,
    ).now()  # fmt: skip
