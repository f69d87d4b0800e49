"""What happens when there is not enough: throttle, reject or terminate. Not here: doing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .clock import parse_max_wait, parse_seconds
from .errors import ConfigurationError, InvalidAmount

PATIENCE = 100


@dataclass(frozen=True, slots=True)
class Throttle:
    """Let the call wait for its turn: first come, first served, weighted between quota tokens.

    What could never be granted is refused at once. A wait that was in vain counts as a refusal:
    the hundredth in a row ends the task.

    Attributes:
        max_wait: the longest wait in seconds, or a text such as `"30s"`; None: as long as it takes.
    """

    max_wait: float | str | None = None
    severity: ClassVar[int] = 0

    def __post_init__(self) -> None:
        parse_max_wait(self.max_wait)

    @property
    def patience(self) -> int | None:
        """How many refusals in a row end the task."""
        return PATIENCE

    @property
    def wait_seconds(self) -> float | None:
        """The longest wait in seconds; None: no bound."""
        return parse_max_wait(self.max_wait)


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call with an exception an agent may read and act on.

    Attributes:
        patience: how many refusals in a row, with no grant between, end the task instead;
            None: never.
    """

    patience: int | None = PATIENCE
    severity: ClassVar[int] = 1

    def __post_init__(self) -> None:
        patience = self.patience
        if patience is None:
            return
        if type(patience) is not int or patience < 1:
            raise InvalidAmount(f"patience={patience!r}: give an int of at least 1, or None")


@dataclass(frozen=True, slots=True)
class Terminate:
    """End the task that owns the short budget, whatever its code catches.

    Attributes:
        settle_seconds: how long the task's exit waits for calls of foreign tasks and threads to
            settle; a sync block does not wait.
    """

    settle_seconds: float = 1.0
    severity: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.settle_seconds != 0 or isinstance(self.settle_seconds, bool):
            parse_seconds("settle_seconds", self.settle_seconds)


Policy = Throttle | Reject | Terminate
PolicyLike = Policy | str | None
"""How users give one: an object, its name, or nothing."""
_NAMED: dict[str, Policy] = {
    "throttle": Throttle(),
    "reject": Reject(),
    "terminate": Terminate(),
}
DEFAULT = _NAMED["reject"]
THROTTLE = _NAMED["throttle"]


def parse_policy(value: object, what: str = "policy") -> Policy | None:
    """Return a policy given as an object or by name; None stays None."""
    if value is None or isinstance(value, Throttle | Reject | Terminate):
        return value
    if isinstance(value, str) and value in _NAMED:
        return _NAMED[value]
    if isinstance(value, type) and value in (Throttle, Reject, Terminate):
        raise ConfigurationError(f"{what}={value.__name__}: call it, {value.__name__}()")
    raise ConfigurationError(
        f"{what}={str(value)[:60]!r}: give {', '.join(map(repr, _NAMED))}, Throttle(...), "
        "Reject(...) or Terminate(...)"
    )


def severity(policy: Policy | None) -> int:
    """Rank policies: terminate beats reject beats throttle; a call's own may only be stricter."""
    return 0 if policy is None else policy.severity


def terminates(*policies: Policy | None) -> bool:
    """Say whether the strictest of them ends the task."""
    return any(isinstance(policy, Terminate) for policy in policies)


def policy_name(policy: Policy) -> str:
    """The word for a policy, as in telemetry and manifests."""
    return ("throttle", "reject", "terminate")[severity(policy)]
