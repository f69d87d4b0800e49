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
class Box:
    """An allowance, and how many draw on it; `heir` has what is left once nobody does."""

    limit: int
    heir: Box | None
    users: int = 1
    spent: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.limit - self.spent - self.reserved

    def now(self) -> Box | None:
        """Where its units are: here, or with whoever is at the end of the line."""
        box: Box | None = self
        while box is not None and not box.users:
            box = box.heir
        return box

    def leave(self) -> None:
        """One draws on it no more; the last one passes it on."""
        self.users -= 1
        if self.users:
            return
        self.heir = heir = None if self.heir is None else self.heir.now()
        if heir is not None:
            heir.limit += self.limit - self.reserved
            heir.spent += self.spent


@dataclass(eq=False)
class Model:
    """What a token has: a weight, and an allowance of its own (`owns`) or a shared one."""

    token: QuotaToken
    weight: int
    box: Box
    lender: Model | None
    owns: bool
    is_over: bool = False

    def end(self, into: Model | None) -> None:
        self.is_over = True
        lender = into or self.lender
        while lender is not None and lender.is_over:
            lender = lender.lender
        self.lender = lender
        if lender is not None:
            lender.weight += self.weight
        if self.owns and into is not None:
            self.box.heir = into.box
        self.box.leave()

    def forget(self, giver: Model) -> None:
        """What came from a token that is merged into it came from whoever that had it from."""
        below: Model | None = self
        while below is not None and below.lender is not giver:
            below = below.lender
        if below is not None:
            below.lender = giver.lender
        box: Box | None = self.box
        while box is not None and box.heir is not giver.box:
            box = box.heir
        if box is not None and giver.owns:
            box.heir = giver.box.heir


@dataclass(eq=False)
class Draw:
    """An open reservation, or one that was assumed."""

    reservation: Reservation
    box: Box
    amount: int
    pool: list[int] = field(repr=False)

    def settle(self, booked: int) -> None:
        self.pool[0] += booked
        box = self.box.now()
        if self.box.users:
            self.box.reserved -= self.amount
            self.box.spent += booked
        elif box is not None:
            box.limit += self.amount
            box.spent += booked

    def correct(self, booked: int) -> None:
        self.pool[0] += booked - self.amount
        box = self.box.now()
        if box is not None:
            box.spent += booked - self.amount


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
        return self.grow(Model(token, WEIGHT, Box(ALLOWANCE, None), None, owns=True))

    @rule(target=tokens, parent=tokens, weight=amounts, allowance=amounts)
    def split(self, parent: Model, weight: int, allowance: int) -> Model:
        if parent.is_over or weight > parent.weight or allowance > parent.box.free:
            with pytest.raises(QuotaTokenError):
                parent.token.split(weight, allowance=allowance)
            return parent
        child = parent.token.split(weight, allowance=allowance)
        parent.weight -= weight
        parent.box.limit -= allowance
        return self.grow(Model(child, weight, Box(allowance, parent.box), parent, owns=True))

    @rule(target=tokens, parent=tokens, weight=amounts)
    def share(self, parent: Model, weight: int) -> Model:
        if parent.is_over or weight > parent.weight:
            with pytest.raises(QuotaTokenError):
                parent.token.split(weight)
            return parent
        child = parent.token.split(weight)
        parent.weight -= weight
        parent.box.users += 1
        return self.grow(Model(child, weight, parent.box, parent, owns=False))

    @rule(taker=tokens, giver=tokens)
    def merge(self, taker: Model, giver: Model) -> None:
        shares = giver.owns and taker.box is giver.box
        if taker is giver or taker.is_over or giver.is_over or shares:
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
            model.end(None)

    @rule(target=held, model=tokens, amount=amounts)
    def reserve(self, model: Model, amount: int) -> Draw | None:
        pool_free = POOL - self.pool[0] - sum(draw.amount for draw in self.open)
        if model.is_over:
            with pytest.raises(QuotaTokenError):
                model.token.reserve_nowait(amount)
            return None
        if amount > model.box.free or amount > pool_free:
            with pytest.raises(QuotaExceeded):
                model.token.reserve_nowait(amount)
            return None
        draw = Draw(model.token.reserve_nowait(amount), model.box, amount, self.pool)
        model.box.reserved += amount
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
            box = model.box
            assert (model.token.expected_use, model.token.allowance) == (model.weight, box.limit)
            if not model.owns:
                continue
            shown = model.token.snapshot()["api"]
            assert (shown.limit, shown.spent, shown.reserved, shown.remaining, shown.overrun) == (
                box.limit,
                box.spent,
                box.reserved,
                max(0, box.free),
                max(0, -box.free),
            )

    @invariant()
    def the_resource_counts_it_all(self) -> None:
        balance = self.service.resource("api").balance
        assert (balance.spent, balance.reserved) == (
            self.pool[0],
            sum(draw.amount for draw in self.open),
        )


Tokens.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTokens = Tokens.TestCase
