"""How claims, answers and nodes travel, and are kept: as little-endian doubles, like in `sync.lua`.

A double holds every amount exactly, and neither side has to parse text. Not here: the scripts.
"""

from __future__ import annotations

from struct import Struct

from ..rows import NodeRow
from ..rules import seen
from ..terms import MICRO, Claim, Grant, Kind, NodeState, Outcome, Terms

CLAIM = Struct("<13d")
HEAD = Struct("<5d")
REPLY = Struct("<3d")
LENGTH = Struct("<d")
ANSWER = Struct("<12d")
TERMS = Struct("<5d")
NODE = Struct("<24d")
LEASE = Struct("<11d")

KINDS: tuple[Kind, ...] = ("capacity", "rate", "concurrency")
OUTCOMES: tuple[Outcome, ...] = ("ok", "recovering", "stale", "undefined")
TOO_LARGE = 4


def claim_bytes(claim: Claim) -> bytes:
    """A claim without node and holder."""
    return CLAIM.pack(
        claim.epoch, claim.used, claim.held, claim.want, claim.need, claim.head, claim.waits,
        claim.demand, claim.share, claim.cap, claim.ttl_ms, claim.revision, claim.is_last,
    )  # fmt: skip


def terms_bytes(terms: Terms) -> bytes:
    """Terms, also as a part of a node and of an answer."""
    return TERMS.pack(
        KINDS.index(terms.kind), terms.value, terms.period_us, terms.burst,
        terms.stranded == "free",
    )  # fmt: skip


def _terms(kind: float, value: float, period: float, burst: float, is_free: float) -> Terms:
    return Terms(
        KINDS[int(kind)], int(value), int(period), int(burst), "free" if is_free else "keep"
    )


def grant_of(node: str, data: bytes, at: int) -> Grant | None:
    """Read an answer that begins there; None: a balance would have become too large."""
    (
        epoch, outcome, granted, share, cap, used, out, stranded, retry, flags, revision, latched,
    ) = map(int, ANSWER.unpack_from(data, at))  # fmt: skip
    if outcome == TOO_LARGE:
        return None
    latch, terms, definition = "", None, ""
    if latched or flags >= 2:
        start = at + ANSWER.size
        latch = data[start : start + latched].decode()
        if flags >= 2:
            terms = _terms(*TERMS.unpack_from(data, start + latched))
            start += latched + TERMS.size
            (length,) = LENGTH.unpack_from(data, at - LENGTH.size)
            definition = data[start : at + int(length)].decode()
    return Grant(
        node, epoch, OUTCOMES[outcome], granted, share, cap, used, out, stranded,
        None if retry < 0 else retry, flags % 2 == 1, latch, revision, terms, definition,
    )  # fmt: skip


def state_of(
    node: str, data: bytes, definition: bytes, latch: bytes, *, now_us: int | None = None
) -> NodeState:
    """Read a node, at a time of the server, where that is known."""
    (
        kind, value, period, burst, free, revision, used, out, stranded, level, micro, anchor,
        shares, caps, _recover, _touched, _deleted, live, *_,
    ) = NODE.unpack(data)  # fmt: skip
    terms = _terms(kind, value, period, burst, free)
    row = NodeRow(
        node, terms, definition.decode(), int(revision), None, int(used), int(out), int(stranded),
        int(level) * MICRO + int(micro), int(anchor), int(shares), int(caps), latch=latch.decode(),
    )  # fmt: skip
    return row.state(int(live)) if now_us is None else seen(row, int(live), now_us)


def row_of(state: NodeState) -> NodeRow:
    """As much of the row of a node as others know of it."""
    return NodeRow(state.node, state.terms, state.definition, state.revision)


def is_deleted(data: bytes) -> bool:
    """Whether the row is that of a node that was taken out."""
    return bool(NODE.unpack(data)[16])


def sums_of(data: bytes) -> list[int]:
    """The sums of the journal's lines that are no longer there: used, out, stranded."""
    return [int(number) for number in NODE.unpack(data)[20:23]]


def units_of(lease: bytes) -> int:
    """What a lease holds."""
    return int(LEASE.unpack_from(lease)[2])
