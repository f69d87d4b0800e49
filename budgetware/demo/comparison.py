"""Is the bill true? What the ledger charged, beside counts that the ledger had no part in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ledger's tokens beside those of the endpoint and of the model server.

    A call that came to its end is charged what the endpoint reported, so these must be equal. A
    call that was cut is charged what it held, which is never less than what the server did for
    it before it noticed: there, the server's counters may only lie between.

    Attributes:
        settled: charged for the calls that came to their end.
        reported: the usage in the endpoint's own replies, summed by the client.
        cut_calls, cut: the calls that were cut, and what they were charged.
        spent: the task budget's balance.
        server: the model server's own counters, None where it has none to show.
    """

    settled: int
    reported: int
    cut_calls: int
    cut: int
    spent: int
    server: int | None

    @property
    def server_cut(self) -> int | None:
        """What the server did for the calls that were cut, by its counters."""
        return None if self.server is None else self.server - self.settled

    @property
    def equal(self) -> bool:
        """Whether every count agrees, as far as each can."""
        in_ledger = self.spent == self.settled + self.cut
        on_server = self.server_cut is None or 0 <= self.server_cut <= self.cut
        return self.settled == self.reported and in_ledger and on_server

    @property
    def verdict(self) -> str:
        """The result in a word, or a few where calls were cut."""
        if not self.equal:
            return "NOT EQUAL"
        if self.cut_calls and self.server is not None:
            return "equal; what was cut is charged in full, and the server did no more than that"
        return "equal"

    def lines(self) -> list[str]:
        """Say it in sentences, one count each."""
        ended = (
            f"{self.settled:,} tokens charged for the calls that came to their end; "
            f"{self.reported:,} reported by the endpoint in its replies"
        )
        said = [ended]
        if self.cut_calls:
            said.append(f"{self.cut:,} more charged, as held, for {self.cut_calls} cut calls")
        said.append(f"{self.spent:,} tokens spent, says the budget")
        if self.server is None:
            said.append("the endpoint shows no counters of its own to compare with")
        elif self.cut_calls:
            said.append(
                f"{self.server:,} processed, say the model server's own counters: "
                f"{self.settled:,} and {self.server_cut:,} for the calls that were cut"
            )
        else:
            said.append(f"{self.server:,} processed, say the model server's own counters")
        return said

    def to_dict(self) -> dict[str, int | bool | None]:
        """The JSON form."""
        return {
            "settled_tokens": self.settled,
            "endpoint_reported_tokens": self.reported,
            "cut_calls": self.cut_calls,
            "cut_charged_tokens": self.cut,
            "spent_tokens": self.spent,
            "server_tokens": self.server,
            "server_tokens_for_cut_calls": self.server_cut,
            "equal": self.equal,
        }
