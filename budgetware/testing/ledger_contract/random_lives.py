"""The tests of random lives. Not here: what happens in them (`lives`, `rate_lives`).

Hypothesis is imported only here, when such a test runs.
"""

from __future__ import annotations

from ...errors import ConfigurationError
from .stage import Stage

MISSING = "the ledger contract needs Hypothesis: pip install hypothesis"


class LifeContract(Stage):
    """Whatever happens, in whatever order, the balances agree.

    Attributes:
        examples: how many lives of each kind are tried.
        is_shrunk: whether the shortest life that fails is looked for, which may take a minute.
    """

    examples: int = 60
    is_shrunk: bool = True

    def test_random_lives_of_a_capacity_agree_with_the_reckoning(self) -> None:
        self.need_given_time()
        try:
            from hypothesis.stateful import run_state_machine_as_test

            from .lives import Lives, settings_of
        except ImportError as error:
            raise ConfigurationError(MISSING) from error

        class LivesHere(Lives):
            stage = self

        run_state_machine_as_test(
            LivesHere, settings=settings_of(self.examples, is_shrunk=self.is_shrunk)
        )

    def test_random_lives_of_a_rate_keep_to_the_bound(self) -> None:
        self.need_given_time()
        try:
            from hypothesis.stateful import run_state_machine_as_test

            from .lives import settings_of
            from .rate_lives import RateLives
        except ImportError as error:
            raise ConfigurationError(MISSING) from error

        class RateLivesHere(RateLives):
            stage = self

        run_state_machine_as_test(
            RateLivesHere, settings=settings_of(self.examples, is_shrunk=self.is_shrunk)
        )
