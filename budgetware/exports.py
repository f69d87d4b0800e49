"""Quota tokens that leave a service as a signed text, and come into one.

Not here: the form of the text (`token_texts`), and how it travels (`propagation`).
"""

from __future__ import annotations

import math
import os

from .accounts import acquire, release
from .admission.refusals import over
from .clock import parse_seconds
from .errors import (
    ConfigurationError,
    InvalidAmount,
    QuotaTokenError,
    ResourceMismatch,
    TokenConsumed,
    TokenInvalid,
)
from .inheritance import end, served
from .kernel.dims import MAX_AMOUNT, from_units, show
from .kernel.quota import take_allowance
from .quotas import Resource
from .runtime import Runtime
from .stakes import Stake
from .token_keys import KEYS_VARIABLE, TokenKeys
from .token_texts import AUDIENCE, Claims, sign, verify

MOST_SECONDS = 30 * 86_400
SKEW_SECONDS = 86_400
"""How far the clocks of those who share a ledger may be apart: a token is remembered so much
longer than it lasts, so that none of them takes for new what the ledger has forgotten."""


def export(stake: Stake, runtime: Runtime, expires_in: object, audience: str | None) -> str:
    """Move a token out: end it, and say in a signed text what it had; see `QuotaToken.export`."""
    keys = _keys(runtime)
    seconds = parse_seconds("expires_in", expires_in)
    if seconds > MOST_SECONDS:
        raise InvalidAmount(f"expires_in={show(expires_in)}: a token lasts at most 30 days")
    _check_audience(audience)
    expires = math.ceil(runtime.clock.time() + seconds)
    runtime.sweep()  # what has expired, or was collected, is no longer held
    try:
        acquire()
        if stake.node.ended:
            raise over(stake.node)
        expected_use, allowance = _take_out(stake)
    finally:
        release()
    served(stake, runtime)
    definition = stake.pool.definition
    claims = Claims(
        token=os.urandom(16).hex(),
        resource=definition.name,
        kind=_kind(definition),
        dim=definition.dim,
        expected_use=expected_use,
        allowance=allowance,
        expires=expires,
        audience=audience,
    )
    return sign(claims, keys)


def _take_out(stake: Stake) -> tuple[int, int | None]:
    """Take all that it has left, and end it: what it spent stays where it came from. Locked."""
    stake.collect()
    expected_use = stake.expected_use
    allowance = stake.cell.free if stake.allowed is stake else None
    _check_whole(stake)
    if expected_use == 0:
        raise _refused(stake, "all of its weight was split off; merge a part first")
    if allowance is not None and allowance <= 0:
        raise _refused(stake, "nothing of its allowance is left; close it")
    if max(expected_use, allowance or 0) > MAX_AMOUNT:
        raise _refused(stake, f"it has more than {MAX_AMOUNT} units; split it first")
    if allowance is not None:
        take_allowance(stake.cell, allowance)
    stake.give_weight(None, expected_use)
    end(stake, into=None)
    return expected_use, allowance


def _check_whole(stake: Stake) -> None:
    """Raise unless what it has left is its own, and is known. Locked."""
    held = stake.cell.reserved + sum(leaver.cell.reserved for leaver in stake.leavers)
    if held:
        shown = from_units(stake.cell.dim, held)
        raise _refused(stake, f"its open reservations hold {shown}; settle them first")
    if stake.allowed is not None and stake.allowed is not stake:
        raise _refused(
            stake, "it shares the allowance of another; split(…, allowance=…) it, and export that"
        )
    if stake.sharers:
        raise _refused(stake, "parts of it share its allowance; merge or close them first")


def _refused(stake: Stake, reason: str) -> QuotaTokenError:
    return QuotaTokenError(f"this token of {stake.pool.name!r} cannot be exported: {reason}")


def take_in(text: object, runtime: Runtime, audience: str | None) -> Stake:
    """Take an exported token, which can be done once; see `QuotaService.import_token`."""
    keys = _keys(runtime)
    _check_audience(audience)
    claims = verify(text, keys)
    _check_time(claims.expires, runtime.clock.time())
    if claims.audience not in (None, audience):
        mine = "none was given" if audience is None else f"not for audience={show(audience)}"
        raise TokenInvalid(f"this token is for a certain audience; {mine}")
    pool = runtime.resources.get(claims.resource)
    definition = pool.definition
    here, there = (_kind(definition), definition.dim), (claims.kind, claims.dim)
    if here != there:
        raise ResourceMismatch(
            f"resource {pool.name!r} is {_shown(*here)} here, and {_shown(*there)} where the token "
            "comes from: its amounts mean something else"
        )
    until = float(claims.expires + SKEW_SECONDS)
    if not runtime.call_ledger(lambda ledger: ledger.spend(claims.token, until)):
        raise TokenConsumed(
            f"this token of {pool.name!r} was imported before: an exported token is taken once"
        )
    return Stake(pool, claims.expected_use, claims.allowance)


def _check_time(expires: int, now: float) -> None:
    if now >= expires:
        raise TokenInvalid(f"this token expired {now - expires:.0f} s ago: export another one")
    if expires - now > MOST_SECONDS + SKEW_SECONDS:
        raise TokenInvalid("this token would last more than 30 days: export another one")


def _kind(definition: Resource) -> str:
    return type(definition.limit).__name__.lower()


def _shown(kind: str, dim: str | None) -> str:
    return f"a {kind} of {dim or 'units of its own'}"


def _check_audience(audience: object) -> None:
    if audience is None or (isinstance(audience, str) and AUDIENCE.fullmatch(audience)):
        return
    raise ConfigurationError(
        f"audience={show(audience)}: give 1 to 256 ASCII characters without spaces, or None"
    )


def _keys(runtime: Runtime) -> TokenKeys:
    if runtime.token_keys is None:
        raise ConfigurationError(
            'this service has no keys for exported tokens: connect(token_keys={"k1": secret}) with '
            f"32 random bytes or more, or name a file of keys in {KEYS_VARIABLE}"
        )
    return runtime.token_keys
