"""What a process leaves for others as long as it cannot tell its ledger: plain data, and its text.

Not here: where it is left (`letter_files`), and who takes it up (`outbox`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

from ..errors import BudgetwareError
from .errands import Errand
from .terms import Claim, UsageRow, UsageSum

VERSION = 1
_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
}


class Unreadable(BudgetwareError):
    """A text is no letter."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The last claim of a holder about a node: what it has come to if it ends now.

    Attributes:
        node, holder, epoch: of that claim.
        used: what it has used in all, and what its open calls hold.
        counted: what of that the ledger is known to have.
        answered: when the ledger answered last, in seconds since the epoch.
        is_asked: whether the claim before this one was made, but not answered.
    """

    node: str
    holder: str
    epoch: int
    used: int
    counted: int
    answered: float
    is_asked: bool

    def claims(self, ttl_ms: int) -> list[Claim]:
        """What is to be told, in order; the ledger counts it once, however often it is told."""
        last = Claim(
            self.node, self.holder, self.epoch, used=self.used, ttl_ms=ttl_ms, is_last=True
        )
        return [replace(last, epoch=self.epoch - 1), last] if self.is_asked else [last]

    def question(self, ttl_ms: int) -> Claim:
        """What is stale for a ledger that remembers this holder, and changes nothing else."""
        return Claim(self.node, self.holder, 0, ttl_ms=ttl_ms, is_last=True)

    def anew(self) -> Parting:
        """The same for a ledger that has counted something of a holder it remembers no more."""
        return replace(
            self, holder=f"{self.holder}.late", epoch=1, used=self.used - self.counted,
            counted=0, is_asked=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Letter:
    """All that one process has to tell, but for its usage events.

    Attributes:
        address: of the ledger.
        written: when, in seconds since the epoch.
    """

    address: str
    written: float
    partings: tuple[Parting, ...] = ()
    errands: tuple[Errand, ...] = ()

    def text(self) -> str:
        """As it is kept."""
        return json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":"))


def read_letter(text: str | bytes) -> Letter:
    """Read one; raises `Unreadable`."""
    data = _table(_parsed(text), "version", *(each.name for each in fields(Letter)))
    if data["version"] != VERSION:
        raise Unreadable(f"its version is {str(data['version'])[:40]!r}, not {VERSION}")
    partings, errands = data["partings"], data["errands"]
    if not (isinstance(partings, list) and isinstance(errands, list)):
        raise Unreadable("it has no lists of partings and errands")
    _check("address", data["address"], "str")
    _check("written", data["written"], "float")
    letter = Letter(
        data["address"],
        data["written"],
        tuple(_record(Parting, each) for each in cast("list[object]", partings)),
        tuple(_record(Errand, each) for each in cast("list[object]", errands)),
    )
    if any(errand.what not in ("latch", "replace") for errand in letter.errands):
        raise Unreadable("it has an errand of an unknown kind")
    return letter


def row_text(row: UsageRow) -> str:
    """A usage event as it is kept: a line."""
    return json.dumps(asdict(row), separators=(",", ":")) + "\n"


def read_row(line: str | bytes) -> UsageRow:
    """Read one; raises `Unreadable`."""
    found = _parsed(line)
    if not isinstance(found, dict):
        raise Unreadable("it is no table")
    table = cast("dict[str, object]", found)
    sums = _sums(table.pop("sums", []))
    row: UsageRow = _record(UsageRow, table, but="sums")
    return replace(row, sums=sums)


def _sums(found: object) -> tuple[UsageSum, ...]:
    """Read what a usage event adds."""
    try:
        sums = tuple(
            UsageSum(ends, group, tuple((what, n) for what, n in units))
            for ends, group, units in cast("Any", found)
        )
    except (TypeError, ValueError):
        raise Unreadable(f"its sums are {str(found)[:40]!r}") from None
    for ends, group, units in sums:
        _check("ends", ends, "int")
        _check("group", group, "str")
        for what, n in units:
            _check("sum", what, "str")
            _check("sum", n, "int")
    return sums


def _parsed(text: str | bytes) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON: {error!s:.200}") from error
    return found


def _table(data: object, *names: str) -> dict[str, Any]:
    if not isinstance(data, dict) or set(cast("Mapping[object, object]", data)) != set(names):
        raise Unreadable(f"it has not the keys {', '.join(names)}")
    return cast("dict[str, Any]", data)


def _record(kind: Any, data: object, *, but: str = "") -> Any:
    types = {each.name: str(each.type) for each in fields(kind) if each.name != but}
    table = _table(data, *types)
    for name, value in table.items():
        _check(name, value, types[name])
    return kind(**table)


def _check(name: str, value: object, kind: str) -> None:
    """Raise unless a value is of the type that is written beside its name."""
    allowed = _KINDS.get(kind, str)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "bool"):
        raise Unreadable(f"its {name} is {str(value)[:40]!r}")
