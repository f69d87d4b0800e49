"""The pure budget: golden vectors, the builder's errors, and a model of its arithmetic."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware.kernel.budget import Budget, BudgetLine, Limit
from budgetware.kernel.dims import Dim
from budgetware.kernel.verdict import CONTINUE, Verdict

TOP = 2**64 - 1
Step = tuple[dict[str, int], Verdict]


def warn(dim: str) -> Verdict:
    return Verdict("warn", dim)


def exhausted(dim: str) -> Verdict:
    return Verdict("exhausted", dim)


PIPELINE: list[Step] = [
    ({"tokens": 1200, "millis": 2500, "calls": 1}, CONTINUE),
    ({"tokens": 2400, "millis": 4800, "calls": 1}, CONTINUE),
    ({"tokens": 3200, "millis": 8000, "calls": 1}, CONTINUE),
    ({"tokens": 1400, "millis": 3200, "calls": 1}, warn("tokens")),
    ({"tokens": 900, "millis": 2400, "calls": 1}, warn("tokens")),
    ({"tokens": 700, "millis": 1600, "calls": 1}, exhausted("calls")),
]
RUNNER: list[Step] = [
    ({"calls": 1, "millis": 1500, "bytes": 200_000, "custom0": 10}, CONTINUE),
    ({"calls": 1, "millis": 3000, "bytes": 650_000, "custom0": 25}, CONTINUE),
    ({"calls": 1, "millis": 4000, "bytes": 500_000, "custom0": 35}, CONTINUE),
    ({"calls": 1, "millis": 3200, "bytes": 450_000, "custom0": 20}, warn("calls")),
    ({"calls": 1, "millis": 1200, "bytes": 120_000, "custom0": 8}, exhausted("calls")),
]


def pipeline() -> Budget:
    return Budget(
        {
            Dim.TOKENS: Limit(10_000, warn=8_000),
            Dim.MILLIS: Limit(30_000, warn=27_000),
            Dim.CALLS: Limit(5, warn=4),
        }
    )


def runner() -> Budget:
    return Budget(
        {
            Dim.CALLS: Limit(4, warn=3),
            Dim.MILLIS: Limit(12_000, warn=9_000),
            Dim.BYTES: Limit(2_000_000, warn=1_600_000),
            Dim.CUSTOM0: Limit(100, warn=80),
        }
    )


def one_by_one(budget: Budget, amounts: dict[str, int]) -> Verdict:
    verdict = CONTINUE
    for dim, amount in amounts.items():
        verdict = verdict.worst(budget.charge(dim, amount))
    return verdict


def test_pipeline_vector_charged_together() -> None:
    budget = pipeline()
    assert [budget.charge_many(step) for step, _ in PIPELINE] == [v for _, v in PIPELINE]


def test_pipeline_vector_charged_one_by_one() -> None:
    budget = pipeline()
    assert [one_by_one(budget, step) for step, _ in PIPELINE] == [v for _, v in PIPELINE]


def test_runner_vector() -> None:
    budget = runner()
    assert [budget.charge_many(step) for step, _ in RUNNER] == [v for _, v in RUNNER]


def test_quota_vector_with_a_reset() -> None:
    budget = Budget({"calls": Limit(3, warn=2), "bytes": Limit(10_000, warn=8_000)})
    first = [budget.charge_many({"calls": 1, "bytes": n}) for n in (1000, 2500, 3000)]
    budget.reset()
    second = [budget.charge_many({"calls": 1, "bytes": n}) for n in (4000, 4500, 2000)]
    assert first == [CONTINUE, CONTINUE, warn("calls")]
    assert second == [CONTINUE, warn("bytes"), exhausted("bytes")]


def test_spending_saturates_instead_of_wrapping() -> None:
    budget = Budget({"tokens": TOP - 1})
    assert budget.charge("tokens", TOP - 1) == CONTINUE
    assert budget.charge("tokens", 10) == exhausted("tokens")
    assert budget.spent("tokens") == TOP


def test_the_example_of_the_contract() -> None:
    budget = Budget({Dim.TOKENS: Limit(100_000, warn=80_000), Dim.CALLS: 50})
    assert budget.charge(Dim.TOKENS, 12_500).name == "continue"
    assert budget.remaining(Dim.TOKENS) == 87_500


def test_at_the_limit_without_a_warning_it_continues() -> None:
    assert Budget({"calls": 1}).charge("calls", 1) == CONTINUE


def test_at_the_limit_with_a_warning_it_warns() -> None:
    assert Budget({"calls": Limit(2, warn=1)}).charge("calls", 2) == warn("calls")


def test_at_the_warn_threshold_it_continues() -> None:
    assert Budget({"calls": Limit(2, warn=1)}).charge("calls", 1) == CONTINUE


def test_a_warn_threshold_of_zero_warns_from_the_first() -> None:
    assert Budget({"calls": Limit(2, warn=0)}).charge("calls", 1) == warn("calls")


def test_a_warning_repeats() -> None:
    budget = Budget({"calls": Limit(9, warn=0)})
    assert [budget.charge("calls", 1) for _ in range(3)] == [warn("calls")] * 3


def test_charging_nothing_asks_for_the_verdict() -> None:
    budget = Budget({"calls": Limit(3, warn=1)})
    budget.charge("calls", 2)
    assert budget.charge("calls", 0) == warn("calls")
    assert budget.spent("calls") == 2


def test_spending_goes_on_being_recorded_once_exhausted() -> None:
    budget = Budget({"calls": 1})
    assert [budget.charge("calls", 2) for _ in range(2)] == [exhausted("calls")] * 2
    assert budget.spent("calls") == 4
    assert budget.remaining("calls") == 0


def test_only_the_charged_dimension_is_judged() -> None:
    budget = Budget({"calls": 1, "bytes": 10})
    budget.charge("calls", 5)
    assert budget.charge("bytes", 1) == CONTINUE


def test_of_equally_bad_verdicts_the_first_given_wins() -> None:
    budget = Budget({"calls": 1, "bytes": 1})
    assert budget.charge_many({"bytes": 2, "calls": 2}) == exhausted("bytes")


def test_worst_prefers_exhausted_then_warn_then_continue() -> None:
    assert warn("calls").worst(exhausted("bytes")) == exhausted("bytes")
    assert CONTINUE.worst(warn("bytes")) == warn("bytes")
    assert exhausted("calls").worst(warn("bytes")) == exhausted("calls")


def test_worst_of_equals_is_the_first() -> None:
    assert warn("calls").worst(warn("bytes")) == warn("calls")


def test_a_warning_is_continuing_and_an_exhaustion_is_not() -> None:
    assert [v.is_continuing for v in (CONTINUE, warn("calls"), exhausted("calls"))] == [1, 1, 0]
    assert [v.is_exhausted for v in (CONTINUE, warn("calls"), exhausted("calls"))] == [0, 0, 1]


def test_charging_many_of_nothing_continues() -> None:
    assert Budget({"calls": 1}).charge_many({}) == CONTINUE


def test_charge_many_changes_nothing_when_one_dimension_is_undeclared() -> None:
    budget = Budget({"calls": 5})
    with pytest.raises(InvalidAmount, match="'bytes' has no limit in this budget; it has calls"):
        budget.charge_many({"calls": 1, "bytes": 1})
    assert budget.spent("calls") == 0


def test_charge_many_changes_nothing_when_one_amount_is_wrong() -> None:
    budget = Budget({"calls": 5, "bytes": 5})
    with pytest.raises(InvalidAmount):
        budget.charge_many({"calls": 1, "bytes": -1})
    assert budget.spent("calls") == 0


def test_an_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(InvalidAmount, match="'token'; did you mean 'tokens'"):
        Budget({"tokens": 5}).charge("token", 1)


def test_peek_answers_as_charge_would_and_changes_nothing() -> None:
    budget = Budget({"calls": Limit(2, warn=1)})
    assert [budget.peek("calls", n) for n in (1, 2, 3)] == [
        CONTINUE,
        warn("calls"),
        exhausted("calls"),
    ]
    assert budget.spent("calls") == 0


def test_peek_at_an_undeclared_dimension_is_an_error() -> None:
    with pytest.raises(InvalidAmount):
        Budget({"calls": 1}).peek("bytes", 1)


def test_what_has_no_limit_is_none() -> None:
    budget = Budget({"calls": 1})
    assert (budget.spent("bytes"), budget.remaining("bytes"), budget.limit("bytes")) == (
        None,
        None,
        None,
    )


def test_reset_keeps_limits() -> None:
    budget = Budget({"calls": Limit(2, warn=1)})
    budget.charge("calls", 2)
    budget.reset()
    assert budget.snapshot()["calls"] == BudgetLine(limit=2, warn=1, spent=0, remaining=2)


def test_a_snapshot_does_not_follow_the_budget_and_cannot_be_changed() -> None:
    budget = Budget({"calls": 2})
    before = budget.snapshot()
    budget.charge("calls", 1)
    assert before["calls"].spent == 0
    with pytest.raises(TypeError):
        before["calls"] = before["calls"]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def test_snapshot_keeps_the_order_given() -> None:
    assert list(Budget({"calls": 2, "tokens": 1}).snapshot()) == ["calls", "tokens"]


def test_dollars_go_in_as_text_and_come_out_as_decimal() -> None:
    budget = Budget({"usd": Limit("0.30", warn=Decimal("0.25"))})
    verdicts = [budget.charge("usd", amount) for amount in ("0.10", 0.1, Decimal("0.1"))]
    assert verdicts == [CONTINUE, CONTINUE, warn("usd")]
    assert budget.spent("usd") == Decimal("0.300000")
    assert str(budget.limit("usd")) == "0.300000"
    assert budget.charge("usd", "0.000001") == exhausted("usd")


def test_a_dimension_of_the_users_own_is_declared_by_limiting_it() -> None:
    budget = Budget({"kernel_gpu_seconds": 5})
    assert budget.charge("kernel_gpu_seconds", 6) == exhausted("kernel_gpu_seconds")


def test_memory_and_millis_are_summed_like_the_rest() -> None:
    budget = Budget({"memory": 10, "millis": 10})
    budget.charge_many({"memory": 6, "millis": 6})
    assert budget.charge_many({"memory": 6, "millis": 4}) == exhausted("memory")


def test_the_repr_shows_what_is_spent() -> None:
    assert repr(Budget({"calls": 5, "usd": "1"})) == "<Budget calls=0/5 usd=0.000000/1.000000>"


def test_a_duplicate_dimension_comes_before_every_other_error() -> None:
    with pytest.raises(ConfigurationError, match="'calls' is limited twice"):
        Budget([("tokens", 0), ("calls", 1), (Dim.CALLS, 2)])


def test_no_dimension_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="at least one dimension"):
        Budget([])


def test_errors_name_the_first_dimension_in_canonical_order() -> None:
    with pytest.raises(InvalidAmount, match="tokens: a limit of 0"):
        Budget({"calls": Limit(5, warn=5), "tokens": 0})


def test_a_zero_limit_comes_before_its_warning() -> None:
    with pytest.raises(InvalidAmount, match="tokens: a limit of 0"):
        Budget({"tokens": Limit(0, warn=0)})


@pytest.mark.parametrize("threshold", [5, 6])
def test_a_warning_not_below_the_limit_is_an_error(threshold: int) -> None:
    with pytest.raises(InvalidAmount, match=f"calls: warn {threshold} must be below limit 5"):
        Budget({"calls": Limit(5, warn=threshold)})


@pytest.mark.parametrize("wrong", [True, 1.5, "5", -1, 2**64, None, float("nan")])
def test_what_is_no_amount_is_no_limit(wrong: int) -> None:
    with pytest.raises(InvalidAmount):
        Budget({"calls": wrong})


@pytest.mark.parametrize("wrong", [True, 1.5, "1", -1, 2**64, None, float("nan")])
def test_what_is_no_amount_is_no_charge(wrong: int) -> None:
    budget = Budget({"calls": 1})
    with pytest.raises(InvalidAmount):
        budget.charge("calls", wrong)
    assert budget.spent("calls") == 0


@pytest.mark.parametrize("wrong", [True, [], -1])
def test_limit_and_warning_are_numbers(wrong: int) -> None:
    with pytest.raises(InvalidAmount):
        Limit(wrong)
    with pytest.raises(InvalidAmount):
        Limit(5, warn=wrong)


def test_limits_compare_by_value_and_cannot_be_changed() -> None:
    assert Limit(5, warn=2) == Limit(5, 2)
    with pytest.raises(AttributeError):
        Limit(5).limit = 6  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@given(
    limit=st.integers(1, TOP),
    amounts=st.lists(st.integers(0, TOP), max_size=20),
    data=st.data(),
)
def test_every_verdict_follows_from_the_saturated_sum(
    limit: int, amounts: list[int], data: st.DataObject
) -> None:
    threshold = data.draw(st.none() | st.integers(0, limit - 1))
    budget = Budget({"bytes": Limit(limit, warn=threshold)})
    for step, amount in enumerate(amounts, 1):
        total = min(sum(amounts[:step]), TOP)
        name = "continue" if threshold is None or total <= threshold else "warn"
        expected = "exhausted" if total > limit else name
        assert budget.peek("bytes", amount).name == expected
        assert budget.charge("bytes", amount).name == expected
        assert budget.spent("bytes") == total
        assert budget.remaining("bytes") == max(limit - total, 0)


class BudgetMachine(RuleBasedStateMachine):
    """A budget of two dimensions beside two plain sums."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget({"tokens": Limit(100, warn=60), "calls": 10})
        self.spent = {"tokens": 0, "calls": 0}

    dims = st.sampled_from(["tokens", "calls"])
    amounts = st.integers(0, 30) | st.integers(0, TOP)

    @rule(dim=dims, amount=amounts)
    def charge(self, dim: str, amount: int) -> None:
        self.spent[dim] = min(self.spent[dim] + amount, TOP)
        expected = self.budget.peek(dim, amount)
        assert self.budget.charge(dim, amount) == expected

    @rule(tokens=amounts, calls=amounts)
    def charge_both(self, tokens: int, calls: int) -> None:
        expected = self.budget.peek("tokens", tokens).worst(self.budget.peek("calls", calls))
        assert self.budget.charge_many({"tokens": tokens, "calls": calls}) == expected
        self.spent["tokens"] = min(self.spent["tokens"] + tokens, TOP)
        self.spent["calls"] = min(self.spent["calls"] + calls, TOP)

    @rule(amount=amounts)
    def fail(self, amount: int) -> None:
        with pytest.raises(InvalidAmount):
            self.budget.charge_many({"tokens": amount, "bytes": amount})

    @rule()
    def reset(self) -> None:
        self.budget.reset()
        self.spent = {"tokens": 0, "calls": 0}

    @invariant()
    def totals_agree(self) -> None:
        assert {dim: line.spent for dim, line in self.budget.snapshot().items()} == self.spent


TestBudgetMachine = BudgetMachine.TestCase
