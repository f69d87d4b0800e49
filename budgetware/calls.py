"""What is known of a call before it runs: its name, kind, model, and how its errors are treated.

Not here: amounts and outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from .clock import parse_max_wait
from .errors import ConfigurationError
from .kernel.dims import check_name
from .policies import Policy, parse_policy

Kind = Literal["tool", "llm", "embeddings"]
OnErrorWord = Literal["charge", "release"]
OnError = OnErrorWord | Callable[[Exception], OnErrorWord]

OPERATIONS = {"tool": "execute_tool", "llm": "chat", "embeddings": "embeddings"}
"""Kind → `gen_ai.operation.name`."""


class Call:
    """One call site; shared by all its calls, never changed."""

    __slots__ = (
        "kind",
        "model",
        "name",
        "on_error",
        "operation",
        "policy",
        "provider",
        "wait_seconds",
    )

    def __init__(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        policy: object = None,
        max_wait: float | str | None = None,
        on_error: OnError = "charge",
    ) -> None:
        if kind is not None and not any(kind == known for known in OPERATIONS):
            raise ConfigurationError(
                f"kind={str(kind)[:60]!r}: give one of {', '.join(map(repr, OPERATIONS))}"
            )
        if on_error not in ("charge", "release") and not callable(on_error):
            raise ConfigurationError(
                f"on_error={str(on_error)[:60]!r}: give 'charge', 'release', or a callable of "
                "the exception that answers one of them"
            )
        self.kind = kind
        self.operation = OPERATIONS[kind] if kind else "reserve"
        self.name = None if name is None else check_name("call", name)
        self.model = _text("model", model)
        self.provider = _text("provider", provider)
        self.policy: Policy | None = parse_policy(policy)
        self.wait_seconds = parse_max_wait(max_wait)
        self.on_error = on_error

    def releases(self, error: Exception) -> bool:
        """Say whether this error means that nothing was paid for."""
        answer = self.on_error(error) if callable(self.on_error) else self.on_error
        return answer == "release"


def _text(what: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value and value.isprintable()):
        return value if value is None else value[:256]
    raise ConfigurationError(
        f"{what}={str(value)[:60]!r}: give a text of 1 or more printable characters"
    )


PLAIN = Call()
"""What `reserve(tokens=...)` and `charge` are without anything said of them."""
