"""Random lives of quota tokens against a small model of what they have."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from budgetware import Capacity, QuotaExceeded, QuotaToken, Reservation, Resource, connect
from budgetware.errors import QuotaTokenError

POOL = 150
ALLOWANCE = 100
WEIGHT = 50
amounts = st.integers(min_value=1, max_value=60)
used = st.integers(min_value=0, max_value=70)


@dataclass(eq=False)
class Model:
    """What a token has: `into` is whoever took over, or is to, what it leaves."""

    token: QuotaToken
    weight: int
    limit: int
    into: Model | None
    spent: int = 0
    reserved: int = 0
    is_over: bool = False

    @property
    def free(self) -> int:
        return self.limit - self.spent - self.reserved

    def owner(self) -> Model | None:
        """Who has it now: itself, or whoever is at the end of the line."""
        seen: Model | None = self
        while seen is not None and seen.is_over:
            seen = seen.into
        return seen

    def forget(self, giver: Model) -> None:
        """What came from a token that is merged into it came from whoever that had it from."""
        below: Model | None = self
        while below is not None and below.into is not giver:
            below = below.into
        if below is not None:
            below.into = giver.into

    def end(self, into: Model | None) -> None:
        taker = None if into is None else into.owner()
        self.is_over = True
        self.into = taker = None if taker is self else taker
        if taker is not None:
            taker.weight += self.weight
            taker.limit += self.limit - self.reserved
            taker.spent += self.spent


@dataclass(eq=False)
class Draw:
    """An open reservation, or one that was assumed; `holder` is whose it was."""

    reservation: Reservation
    holder: Model
    amount: int
    pool: list[int] = field(repr=False)

    def settle(self, booked: int) -> None:
        self.pool[0] += booked
        if not self.holder.is_over:
            self.holder.reserved -= self.amount
            self.holder.spent += booked
        elif (owner := self.holder.owner()) is not None:
            owner.limit += self.amount
            owner.spent += booked

    def correct(self, booked: int) -> None:
        self.pool[0] += booked - self.amount
        owner = self.holder.owner()
        if owner is not None:
            owner.spent += booked - self.amount


class Tokens(RuleBasedStateMachine):
    tokens = Bundle("tokens")
    held = Bundle("held")
    assumed = Bundle("assumed")

    def __init__(self) -> None:
        super().__init__()
        self.service = connect()
        self.service.__enter__()
        self.service.define(Resource("api", Capacity(POOL), "reject"))
        self.models: list[Model] = []
        self.open: list[Draw] = []
        self.pool = [0]

    def teardown(self) -> None:
        for draw in self.open:
            draw.reservation.release()
        for model in self.models:
            model.token.close()
        self.service.close()

    def grow(self, model: Model) -> Model:
        self.models.append(model)
        return model

    @rule(target=tokens)
    def make(self) -> Model:
        token = QuotaToken("api", WEIGHT, allowance=ALLOWANCE)
        return self.grow(Model(token, WEIGHT, ALLOWANCE, None))

    @rule(target=tokens, parent=tokens, weight=amounts, allowance=amounts)
    def split(self, parent: Model, weight: int, allowance: int) -> Model:
        if parent.is_over or weight > parent.weight or allowance > parent.free:
            with pytest.raises(QuotaTokenError):
                parent.token.split(weight, allowance=allowance)
            return parent
        child = parent.token.split(weight, allowance=allowance)
        parent.weight -= weight
        parent.limit -= allowance
        return self.grow(Model(child, weight, allowance, parent))

    @rule(taker=tokens, giver=tokens)
    def merge(self, taker: Model, giver: Model) -> None:
        if taker is giver or taker.is_over or giver.is_over:
            with pytest.raises(QuotaTokenError):
                taker.token.merge(giver.token)
            return
        taker.token.merge(giver.token)
        taker.forget(giver)
        giver.end(taker)

    @rule(model=tokens)
    def close(self, model: Model) -> None:
        model.token.close()
        if not model.is_over:
            model.end(model.into)

    @rule(target=held, model=tokens, amount=amounts)
    def reserve(self, model: Model, amount: int) -> Draw | None:
        pool_free = POOL - self.pool[0] - sum(draw.amount for draw in self.open)
        if model.is_over:
            with pytest.raises(QuotaTokenError):
                model.token.reserve_nowait(amount)
            return None
        if amount > model.free or amount > pool_free:
            with pytest.raises(QuotaExceeded):
                model.token.reserve_nowait(amount)
            return None
        draw = Draw(model.token.reserve_nowait(amount), model, amount, self.pool)
        model.reserved += amount
        self.open.append(draw)
        return draw

    @rule(draw=consumes(held), booked=used)
    def commit(self, draw: Draw | None, booked: int) -> None:
        if draw is not None:
            self.open.remove(draw)
            draw.reservation.commit(booked)
            draw.settle(booked)

    @rule(target=assumed, draw=consumes(held))
    def leave(self, draw: Draw | None) -> Draw | None:
        if draw is not None:
            self.open.remove(draw)
            with draw.reservation:
                pass
            draw.settle(draw.amount)
        return draw

    @rule(draw=consumes(assumed), booked=used)
    def correct(self, draw: Draw | None, booked: int) -> None:
        if draw is not None:
            draw.reservation.commit(booked)
            draw.correct(booked)

    @invariant()
    def tokens_have_what_the_model_says(self) -> None:
        for model in self.models:
            if model.is_over:
                continue
            shown = model.token.snapshot()["api"]
            assert (shown.limit, shown.spent, shown.reserved, shown.remaining, shown.overrun) == (
                model.limit,
                model.spent,
                model.reserved,
                max(0, model.free),
                max(0, -model.free),
            )
            assert (model.token.expected_use, model.token.allowance) == (model.weight, model.limit)

    @invariant()
    def the_resource_counts_it_all(self) -> None:
        balance = self.service.resource("api").balance
        assert (balance.spent, balance.reserved) == (
            self.pool[0],
            sum(draw.amount for draw in self.open),
        )


Tokens.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTokens = Tokens.TestCase
