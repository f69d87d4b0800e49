"""What a quota token leaves when it is over: its weight and its allowance, and who has them then.

Not here: the tokens themselves (`quota_tokens`).
"""

from __future__ import annotations

from .accounts import acquire, release, waiting
from .admission.parking import dismiss, serve_cells
from .kernel.nodes import Cell, QuotaCell
from .kernel.quota import inherit
from .runtime import Runtime
from .stakes import Stake


def close(stake: Stake, runtime: Runtime) -> None:
    """Give its weight back, and end it."""
    try:
        acquire()
        if stake.node.ended:
            return
        end(stake, into=None)
    finally:
        release()
    served(stake, runtime)


def relink(mine: Stake, theirs: Stake) -> None:
    """What came from a token that is now merged into a part of it, came from whoever lent that.

    Otherwise the two would point at each other, and what is left would go round for ever.
    """
    below: Stake | None = mine
    while below is not None and below.lender is not theirs:
        below = below.lender
    if below is not None:
        below.lender = theirs.lender
    cell: Cell | None = mine.allowance or mine.cell
    while isinstance(cell, QuotaCell):
        owner: Stake = cell.node.owner
        if cell.heir is theirs.cell:
            cell.heir = theirs.cell.heir
        elif owner.bequest is theirs.cell:
            owner.bequest = theirs.cell.heir
        else:
            cell = cell.heir or owner.bequest
            continue
        return


def end(stake: Stake, into: Stake | None) -> None:
    """Take no more draws, and pass on what is left: to `into`, else to where it came from.

    What parts share stays with them until the last of them is over. Locked. What each points at
    was open when it ended, so following that never goes in circles.
    """
    lender = into or stake.lender
    while lender is not None and lender.node.ended:
        lender = lender.lender
    stake.lender = lender = None if lender is stake else lender
    stake.give_weight(lender, stake.expected_use)
    stake.collect()
    stake.bequest = _merged(stake.cell, into) or stake.cell.heir
    stake.cell.heir = None
    stake.node.ended = True
    stake.node.guard()
    last: Stake | None = stake
    while last is not None and last.node.ended and not last.sharers:
        _bequeath(last)
        shares, last.shares = last.shares, None
        if shares is not None:
            shares.sharers -= 1
        last = shares


def _bequeath(stake: Stake) -> None:
    """Nobody draws on it any more: let its heir have what is left."""
    cell = stake.cell
    heir: Cell | None = stake.bequest
    while heir is not None and heir.node.ended and not heir.node.owner.sharers:
        heir = heir.heir
    cell.heir = heir = None if heir is cell else heir
    stake.bequest = None
    leavers, stake.leavers = stake.leavers, []
    if heir is not None:
        if not inherit(cell):
            leavers.append(stake)
        heir.node.owner.await_leavers(leavers, heir)


def _merged(cell: QuotaCell, into: Stake | None) -> QuotaCell | None:
    """What `into` has for what a token leaves: its allowance, or its own count without one."""
    if into is None:
        return None
    if cell.limit is not None:
        return into.allowance or (into.cell if cell.heir is None else None)
    if into.cell.limit is not None or into.cell in cell.node.owner.cells:
        return None  # what was drawn counts there already, or would use up what is not meant
    return into.cell


def served(stake: Stake, runtime: Runtime) -> None:
    """Tell those who waited for it. Without the lock."""
    if waiting:
        now_ns = runtime.clock.now_ns()
        dismiss(now_ns, stake.node)
        if stake.cell.heir is not None:
            serve_cells([stake.cell.heir], now_ns)
