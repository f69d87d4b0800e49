"""`QuotaToken`: the right to draw on one resource, to be split, passed on and merged.

Not here: how draws wait and are charged.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from .accounts import acquire, book_later, release, waiting
from .admission.parking import serve_cells
from .admission.refusals import over
from .amounts import Price
from .bindings import bind, unbind
from .errors import ConfigurationError, InvalidAmount, QuotaTokenError, ResourceMismatch
from .exports import export, take_in
from .frames import current_frame
from .inheritance import close, end, relink, served
from .kernel.balances import Snapshot, balance, verdict
from .kernel.dims import from_units, show, to_units
from .kernel.quota import take_allowance
from .nowait import reserve_nowait
from .reservations import Reservation
from .runtime import HasRuntime, Runtime
from .stakes import Stake


class QuotaToken:
    """The right to draw on one resource, with a scheduling weight and maybe an allowance.

    Args:
        resource: its name.
        expected_use: the scheduling weight among the tokens of the resource, in its units, at
            least 1. Declaring more than the allowance, or than the resource has, gains nothing.
        allowance: the most it may draw in all (of a concurrency: at once); None: no own bound.
        service: by default the current one.

    `async with token:` (or `with`) binds it: calls inside that reserve the dimension of the
    resource draw on it. That does not close it; a part of another that is collected without
    `close` or `merge` warns. It may be used from any task and thread, and does not pickle:
    `export` moves it.

    Raises:
        UnknownResource, InvalidAmount: nothing has changed.
    """

    def __init__(
        self,
        resource: str,
        expected_use: Price,
        *,
        allowance: Price | None = None,
        service: HasRuntime | None = None,
    ) -> None:
        self._stake: Stake | None = None
        if service is not None and not isinstance(getattr(service, "runtime", None), Runtime):
            raise ConfigurationError(f"service={show(service)}: give what connect() returns")
        self._runtime = current_frame().runtime if service is None else service.runtime
        pool = self._runtime.resources.get(resource)
        dim = pool.definition.dim
        weight = _weight(expected_use, dim)
        self._set(Stake(pool, weight, _allowance(allowance, dim)))

    def _set(self, stake: Stake) -> None:
        self._stake = stake

    @classmethod
    def of(cls, stake: Stake, runtime: Runtime) -> QuotaToken:
        """The token that stands for a right; for the library's own use."""
        token = cls.__new__(cls)
        token._runtime = runtime
        token._stake = stake
        return token

    @property
    def stake(self) -> Stake:
        """What it stands for; for the library's own use."""
        stake = self._stake
        assert stake is not None
        if stake.node.ended:
            raise over(stake.node)
        return stake

    @property
    def runtime(self) -> Runtime:
        """The service it draws in; for the library's own use."""
        return self._runtime

    @property
    def resource(self) -> str:
        """The name of the resource."""
        assert self._stake is not None
        return self._stake.pool.name

    @property
    def expected_use(self) -> Any:
        """The scheduling weight, less what was split off; dollars, where it counts `usd`."""
        assert self._stake is not None
        self._runtime.sweep()
        return self._shown(self._stake.expected_use)

    @property
    def allowance(self) -> Any:
        """What it may still have, spent part included; None: no bound of its own.

        Moved in and out by `split` and `merge`; of a part that shares, that of the whole.
        """
        assert self._stake is not None
        self._runtime.sweep()
        try:
            acquire()
            allowed = self._stake.allowed
            if allowed is None or allowed.cell.limit is None:
                return None
            allowed.collect()
            return self._shown(allowed.cell.limit)
        finally:
            release()

    def _shown(self, units: int) -> Any:
        assert self._stake is not None
        return from_units(self._stake.pool.definition.dim or "units", units)

    def reserve(self, amount: Price | None = None, /, **options: Any) -> Reservation:
        """Hold an amount of it around a call: `async with token.reserve(2_000) as reservation`.

        Options and errors as of `budgetware.reserve`.
        """
        _ = self.stake
        return Reservation(self, amount, **options)

    def reserve_nowait(self, amount: Price | None = None, /, **options: Any) -> Reservation:
        """Hold an amount of it now, or raise at once."""
        _ = self.stake
        return reserve_nowait(self, amount, **options)

    def split(self, child_expected_use: Price, *, allowance: Price | None = None) -> QuotaToken:
        """Make a part of it a token of its own, for a sub-agent say.

        The weight is taken from this one. So is the allowance, where this one has one; without
        `allowance` the part shares it.

        Raises:
            QuotaTokenError: more than this one has; nothing has changed.
            TokenConsumed: it is over.
        """
        stake = self.stake
        dim = stake.pool.definition.dim
        weight = _weight(child_expected_use, dim)
        units = _allowance(allowance, dim)
        self._runtime.sweep()  # parts that were collected give back
        try:
            acquire()
            if stake.node.ended:
                raise over(stake.node)
            stake.collect()
            if weight > stake.expected_use:
                raise QuotaTokenError(
                    f"split({show(child_expected_use)}): this token of {self.resource!r} has a "
                    f"weight of {self._shown(stake.expected_use)}; split off that or less"
                )
            giver = stake.allowance
            if units is not None and giver is not None:
                if units > giver.free:
                    raise QuotaTokenError(
                        f"allowance={show(allowance)}: this token of {self.resource!r} has "
                        f"{self._shown(max(0, giver.free))} of its own left; give that or less"
                    )
                take_allowance(giver, units)
            child = Stake(stake.pool, weight, units, stake)
            child.cell.heir = giver if units is not None else None
            stake.give_weight(None, weight)
            child.family.declared += weight
        finally:
            release()
        if units is not None and giver is not None and waiting:  # some may wait in vain now
            serve_cells([giver], self._runtime.clock.now_ns())
        return self.of(child, self._runtime)

    def merge(self, other: QuotaToken, /) -> None:
        """Take over another token of the same resource: its weight, and what it did not spend.

        The other one is over then. Its open reservations go on; what they do not use comes here.

        Raises:
            ResourceMismatch, TokenConsumed, QuotaTokenError: nothing has changed.
        """
        if not isinstance(other, QuotaToken):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise QuotaTokenError(f"merge({show(other)}): give a QuotaToken")
        if other is self:
            raise QuotaTokenError("a token cannot be merged with itself")
        mine, theirs = self.stake, other.stake
        if theirs.pool is not mine.pool:
            of = "of another service" if other.resource == self.resource else "of another resource"
            raise ResourceMismatch(
                f"a token of {other.resource!r}, {of}, cannot be merged into one of "
                f"{self.resource!r}"
            )
        try:
            acquire()
            for stake in (mine, theirs):
                if stake.node.ended:
                    raise over(stake.node)
            if mine.allowed is theirs and mine is not theirs:
                raise QuotaTokenError(
                    "this token shares the allowance of the other one: merge it into that instead"
                )
            relink(mine, theirs)
            end(theirs, into=mine)
        finally:
            release()
        served(theirs, self._runtime)

    def close(self) -> None:
        """End it: its weight and what is left of its allowance go back to where they came from.

        Reservations still open go on, and what they do not use goes back at their end. Closing
        twice does nothing.
        """
        assert self._stake is not None
        close(self._stake, self._runtime)

    def export(self, *, expires_in: float | str, audience: str | None = None) -> str:
        """Move it out, as a signed text that `QuotaService.import_token` takes once, anywhere.

        The text has its weight and what is left of its allowance; parts that were split off stay
        with whoever has them. Then this one is over, and gives nothing back but what parts and
        corrections leave. Until it expires, the text can be taken back, unless somebody else was
        faster: `parent.merge(service.import_token(text))`.

        Whoever has the text can spend it: treat it as a secret, and let it last minutes.

        Args:
            expires_in: seconds, or a text such as `"10m"`; at most 30 days. After that nobody can
                import it, and what it has is lost.
            audience: who may import it, as a name or an address; None: whoever has the text, and
                a service with the same keys.

        Raises:
            QuotaTokenError: reservations of it are open, it shares its allowance, or there is
                nothing to export; nothing has changed.
            TokenConsumed: it is over.
            ConfigurationError: the service has no keys; see `connect(token_keys=…)`.
            InvalidAmount: `expires_in` is no duration, or too long.
        """
        assert self._stake is not None
        return export(self._stake, self._runtime, expires_in, audience)

    def snapshot(self) -> Snapshot:
        """What was drawn by it, and what is left of its allowance, at one instant."""
        stake = self._stake
        assert stake is not None
        self._runtime.sweep()
        try:
            acquire()
            stake.collect()
            dims = {stake.cell.dim: balance(stake.cell)}
            path = stake.pool.node.path
            return Snapshot(stake.pool.name, stake.node.id, path, verdict(stake.node), dims)
        finally:
            release()

    def __enter__(self) -> QuotaToken:
        bind(self.stake, self._runtime)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._stake is not None
        unbind(self._stake)

    async def __aenter__(self) -> QuotaToken:
        return self.__enter__()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.__exit__(_type, _error, _trace)

    def __repr__(self) -> str:
        stake = self._stake
        if stake is None:
            return "<QuotaToken not made>"
        state = " over" if stake.node.ended else ""
        cell = stake.allowance
        allowance = None if cell is None or cell.limit is None else self._shown(cell.limit)
        return (
            f"<QuotaToken of {self.resource} weight {self._shown(stake.expected_use)} "
            f"allowance {allowance}{state}>"
        )

    def __reduce__(self) -> Any:
        raise TypeError(
            "a QuotaToken cannot be pickled or copied: it would be spent twice; split it"
        )

    def __del__(self) -> None:
        stake = getattr(self, "_stake", None)
        if stake is not None and not stake.node.ended:
            runtime = self._runtime
            book_later(lambda: close(stake, runtime))
            if stake.lender is None:  # it was nobody's part
                return
            warnings.warn(
                f"{self!r} was collected without close() or merge(): what it had goes back",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def import_token(text: object, runtime: Runtime, audience: str | None) -> QuotaToken:
    """Take an exported token into a service; see `QuotaService.import_token`."""
    return QuotaToken.of(take_in(text, runtime, audience), runtime)


def _weight(expected_use: object, dim: str | None) -> int:
    units = to_units("usd" if dim == "usd" else "expected_use", expected_use, round_up=False)
    if units == 0:
        raise InvalidAmount(f"expected_use={show(expected_use)}: a weight is at least 1")
    return units


def _allowance(allowance: object, dim: str | None) -> int | None:
    if allowance is None:
        return None
    units = to_units("usd" if dim == "usd" else "allowance", allowance, round_up=False)
    if units == 0:
        raise InvalidAmount(f"allowance={show(allowance)}: it allows nothing; give one above 0")
    return units
