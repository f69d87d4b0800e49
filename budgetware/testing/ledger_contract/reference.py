"""The balances a ledger must have, by the shortest reckoning there is.

It does not say what is granted, only how much may be. Not here: the rules a ledger follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...ledgers.terms import Claim, Grant, NodeState, Terms


@dataclass(eq=False)
class Part:
    """What one holder has, and has said."""

    epoch: int = 0
    used: int = 0
    units: int = 0
    stranded: int = 0
    ends_us: int = 0
    is_over: bool = False
    answer: Grant | None = None


@dataclass(eq=False)
class Reference:
    """A capacity, or slots, as its holders have reported it.

    Attributes:
        terms: of the node.
        recovers_us: until then nothing may be granted.
    """

    terms: Terms
    recovers_us: int = 0
    parts: dict[str, Part] = field(default_factory=dict[str, Part])

    @property
    def balances(self) -> tuple[int, int, int, int]:
        """Used, out, stranded, and how many hold a lease."""
        parts = self.parts.values()
        return (
            sum(part.used for part in parts),
            sum(part.units for part in parts),
            sum(part.stranded for part in parts),
            sum(not part.is_over for part in parts),
        )

    def answered(self, claim: Claim, grant: Grant, now_us: int) -> None:
        """Check the answer to a claim, and count what it changes."""
        known = self.parts.get(claim.holder)
        if known is not None and claim.epoch <= known.epoch:
            self._check_replay(claim, grant, known)
            return
        part = self.parts.setdefault(claim.holder, Part())
        ttl_us = claim.ttl_ms * 1_000
        if claim.epoch > part.epoch + 1:
            self.recovers_us = max(self.recovers_us, now_us + ttl_us)
        self._end_late_ones(part, now_us)
        part.epoch, part.used, part.units, part.stranded = claim.epoch, claim.used, claim.held, 0
        part.is_over = claim.is_last and not claim.held
        margin_us = ttl_us // 4 if self.terms.kind == "concurrency" else 0
        part.ends_us = now_us + ttl_us + margin_us
        part.answer = grant
        used, out, stranded, _ = self.balances
        free = max(0, self.terms.value - used - out - stranded)
        most = 0 if now_us < self.recovers_us or claim.is_last else free
        assert 0 <= grant.granted <= most, f"{claim} was granted {grant.granted} of {most}"
        part.units += grant.granted

    def _check_replay(self, claim: Claim, grant: Grant, part: Part) -> None:
        if claim.epoch == part.epoch:
            assert grant == part.answer, f"repeated {claim} gave {grant}, first {part.answer}"
        else:
            assert grant.outcome == "stale", f"old {claim} gave {grant}"

    def _end_late_ones(self, claiming: Part, now_us: int) -> None:
        is_kept = self.terms.kind == "capacity" and self.terms.stranded == "keep"
        for part in self.parts.values():
            if part is not claiming and not part.is_over and now_us > part.ends_us:
                part.stranded = part.units if is_kept else 0
                part.units = 0
                part.is_over = True

    def check(self, state: NodeState) -> None:
        """Compare a node with it."""
        found = state.used, state.out, state.stranded, state.holders
        names = "used, out, stranded, holders"
        assert found == self.balances, f"{names} are {found}, not {self.balances}"
        limit = self.terms.value + state.debt
        assert sum(found[:3]) <= limit, f"{found} are more than value and debt: {limit}"
