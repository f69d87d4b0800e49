"""What is known of a call before it runs, as attributes; learnt once per task and call site.

Not here: when a span starts and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from ..policies import Policy, policy_name, severity
from . import names
from .values import Attributes, clean

if TYPE_CHECKING:
    from ..calls import Call
    from ..frames import Frame
    from ..kernel.nodes import Cell, Item


class Facts:
    """A call in a frame: the span's name and kind, and the attributes of every such call.

    `left` are keys, cells of the leaf whose room is shown under them, and what those keep back;
    they, and what is reserved, are as in `items`. `has_late`: something is known at the end only.
    """

    __slots__ = (
        "attributes",
        "has_late",
        "has_usage",
        "items",
        "kind",
        "labels",
        "left",
        "name",
        "said",
    )

    def __init__(self, frame: Frame, call: Call, *, genai_usage: bool) -> None:
        self.name = _span_name(call)
        self.kind = SpanKind.CLIENT if call.kind in ("llm", "embeddings") else SpanKind.INTERNAL
        self.has_usage = genai_usage and self.kind is SpanKind.CLIENT
        self.labels: dict[str, str] = {names.OPERATION: call.operation}
        self.said: Attributes = {} if call.kind is None else _of_call(call)
        self.said |= of_place(frame)
        self.said[names.DECISION] = names.ADMITTED
        policy = stricter(frame.chain[0].policy if frame.chain else None, call.policy)
        if policy is not None:
            self.said[names.POLICY] = policy
        self.items: Sequence[Item] | None = None
        self.attributes = self.said
        self.has_late = self.has_usage
        self.left: list[tuple[str, Cell, int]] = []

    def hold(self, items: Sequence[Item], frame: Frame) -> None:
        """Learn what is held; calls of fixed amounts share one `items`."""
        self.items = items
        self.has_late = self.has_usage or any(dim == "usd" for dim, _n, _payers in items)
        self.left = leaf_cells(items, frame)
        self.attributes = self.said | {names.RESERVED[dim]: n for dim, n, _payers in items}


def leaf_cells(items: Sequence[Item], frame: Frame) -> list[tuple[str, Cell, int]]:
    """The leaf's cells that have a limit, with their keys and what they keep back here."""
    leaf = [(dim, cells[0]) for dim, _n, (cells, _above, _special) in items if cells]
    return [
        (names.REMAINING[dim], cell, 0 if cell.node in frame.finishing else cell.keep)
        for dim, cell in leaf
        if cell.limit is not None
    ]


def of_place(frame: Frame) -> Attributes:
    """Where a call stands: its task, and on whose behalf. For spans only."""
    attributes: Attributes = {}
    if frame.chain:
        attributes[names.BUDGET_ID] = frame.chain[0].id
        attributes[names.BUDGET_PATH] = clean(frame.path)
    if frame.principal is not None:
        attributes[names.PRINCIPAL] = frame.principal.name
    return attributes


def stricter(*policies: Policy | None) -> str | None:
    """The word for the strictest of the policies of a budget and a call."""
    given = [policy for policy in policies if policy is not None]
    return policy_name(max(given, key=severity)) if given else None


def _span_name(call: Call) -> str:
    of = call.name if call.kind == "tool" else call.model
    return call.operation if of is None else f"{call.operation} {of}"


def _of_call(call: Call) -> Attributes:
    attributes: Attributes = {names.OPERATION: call.operation}
    if call.kind == "tool" and call.name is not None:
        attributes[names.TOOL_NAME] = call.name
    if call.model is not None:
        attributes[names.REQUEST_MODEL] = call.model
    if call.provider is not None:
        attributes[names.PROVIDER] = call.provider
    return attributes
