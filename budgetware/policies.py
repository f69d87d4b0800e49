"""What happens when there is not enough: `Reject` and `Terminate`. Not here: doing it."""

from __future__ import annotations

from dataclasses import dataclass

from .clock import parse_seconds
from .errors import ConfigurationError, InvalidAmount


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call with an exception an agent may read and act on.

    Attributes:
        patience: how many refusals in a row, with no grant between, end the task instead;
            None: never.
    """

    patience: int | None = 100

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

    def __post_init__(self) -> None:
        if self.settle_seconds != 0 or isinstance(self.settle_seconds, bool):
            parse_seconds("settle_seconds", self.settle_seconds)


Policy = Reject | Terminate
PolicyLike = Policy | str | None
"""How users give one: an object, its name, or nothing."""
_NAMED: dict[str, Policy] = {"reject": Reject(), "terminate": Terminate()}
DEFAULT = _NAMED["reject"]


def parse_policy(value: object) -> Policy | None:
    """Return a policy given as an object or by name; None stays None."""
    if value is None or isinstance(value, Reject | Terminate):
        return value
    if isinstance(value, str) and value in _NAMED:
        return _NAMED[value]
    if value is Reject or value is Terminate:
        name = "Reject" if value is Reject else "Terminate"
        raise ConfigurationError(f"policy={name}: call it, {name}()")
    raise ConfigurationError(
        f"policy={str(value)[:60]!r}: give {' or '.join(map(repr, _NAMED))}, Reject(...) "
        "or Terminate(...)"
    )


def terminates(*policies: Policy | None) -> bool:
    """Say whether the strictest of them ends the task; a call's own may only be stricter."""
    return any(isinstance(policy, Terminate) for policy in policies)


def policy_name(policy: Policy) -> str:
    """The word for a policy, as in telemetry and manifests."""
    return "terminate" if isinstance(policy, Terminate) else "reject"
