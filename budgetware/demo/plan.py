"""What a run may spend and how much of that is kept for the last answer."""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Literal

Policy = Literal["reject", "terminate"]

SUMMARY_TOKENS = 48
ANSWER_TOKENS = 96
EXCERPT_CHARS = 700
MAX_KEPT_TOKENS = 900
KEPT_SHARE = 4  # a quarter of a small budget
PER_MILLION = 1_000_000
MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal

    @property
    def dearest(self) -> Decimal:
        """The higher of the two."""
        return max(self.input, self.output)


# Invented: a model in this process has no price. It makes the usd dimension visible.
DEMO_PRICES = Prices(Decimal("1.00"), Decimal("4.00"))


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits of one run.

    Attributes:
        usd: None leaves money unlimited, and so uncounted.
        parallel: how many files are worked on at once.
    """

    tokens: int
    calls: int
    usd: Decimal | None
    seconds: float
    policy: Policy
    parallel: int
    prices: Prices | None

    @property
    def kept_tokens(self) -> int:
        """What the last answer may cost: prompt and reply, and payable from the kept dollars."""
        kept = min(MAX_KEPT_TOKENS, self.tokens // KEPT_SHARE)
        if self.usd is None or self.prices is None or not self.prices.dearest:
            return kept
        payable = self.usd / KEPT_SHARE * PER_MILLION / self.prices.dearest
        return min(kept, int(payable))

    @property
    def keep(self) -> dict[str, int | Decimal]:
        """What ordinary calls may not touch, by dimension: the `keep` of the task budget."""
        kept: dict[str, int | Decimal] = {"tokens": self.kept_tokens}
        if self.calls > 1:
            kept["calls"] = 1
        if self.usd is not None:
            kept["usd"] = self._kept_usd
        return {dim: amount for dim, amount in kept.items() if amount}

    @property
    def _kept_usd(self) -> Decimal:
        assert self.usd is not None
        if self.prices is None:
            share = self.usd / KEPT_SHARE
        else:
            share = self.prices.dearest * self.kept_tokens / PER_MILLION
        return share.quantize(MICRO, ROUND_DOWN)
