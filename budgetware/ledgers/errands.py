"""What a ledger is to be told besides claims, again and again until it has heard: plain data.

Not here: telling it (`courier`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .protocol import Ledger


@dataclass(frozen=True, slots=True)
class Errand:
    """`Ledger.latch` or `Ledger.replace`, of a key and with a text."""

    what: Literal["latch", "replace"]
    key: str
    text: str

    def run(self, ledger: Ledger) -> None:
        """Do it; doing it again changes nothing."""
        if self.what == "latch":
            ledger.latch(self.key, self.text)
        else:
            ledger.replace(self.key, self.text)
