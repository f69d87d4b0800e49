"""Why a ledger grants nothing for now, as errors that say so. Not here: when."""

from __future__ import annotations

from ..errors import LedgerUnavailable
from .terms import title


def undefined(node: str) -> LedgerUnavailable:
    """It was emptied, or somebody has deleted the node."""
    return LedgerUnavailable(
        f"the ledger knows nothing of {title(node)} (any more): define it again; until then "
        "nothing is granted"
    )


def recovering(node: str, left_ns: int) -> LedgerUnavailable:
    """It was restarted, restored or moved, and has to hear first what is leased."""
    return LedgerUnavailable(
        f"the ledger of {title(node)} was restarted or restored, and grants nothing until it has "
        f"heard from all who hold leases: try again in {left_ns / 1e9:.3g} s"
    )
