"""The suite that every ledger passes.

Apply it to your own in a file of tests:

    from budgetware.testing.ledger_contract import LedgerContract

    class TestMyLedger(LedgerContract):
        def make_ledger(self, now, wall):
            return MyLedger(now=now, wall=wall)

Each test gets a new ledger on an empty store. More of it is tested with `another` (a second ledger
on the same store) and `corrupt`; a ledger that takes its time from a server overrides `advance`.
Needs Hypothesis. Not here: a ledger's own failures, such as a full disk or a lost connection.
"""

from .capacities import CapacityContract, ConcurrencyContract
from .lines import LineContract
from .nodes import DefinitionContract
from .random_lives import LifeContract
from .rates import CrowdContract, RateContract
from .records import JournalContract, RecordContract, ThreadContract
from .repeats import RecoveryContract, RepeatContract

__all__ = ["LedgerContract"]


class LedgerContract(
    CapacityContract,
    ConcurrencyContract,
    LineContract,
    RepeatContract,
    RecoveryContract,
    RateContract,
    CrowdContract,
    DefinitionContract,
    RecordContract,
    JournalContract,
    ThreadContract,
    LifeContract,
):
    """What every ledger does."""
