"""What every adapter may be told of how it holds model calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ._estimates import DEFAULT_OUTPUT_TOKENS, estimate_tokens

if TYPE_CHECKING:
    from budgetware import Reject, Terminate, Throttle


class Options(TypedDict, total=False):
    """Keywords of the adapters.

    policy: stricter than the payers' own, as of `reserve`.
    max_wait: the longest wait for a throttled resource, in seconds or as `"30s"`.
    default_output_tokens: what a call that names no maximum holds for its answer; 4,096.
    count_tokens: counts the tokens of a prompt (text, messages and tools as they are sent), in
        place of the estimate by its bytes.
    """

    policy: Throttle | Reject | Terminate | str | None
    max_wait: float | str | None
    default_output_tokens: int
    count_tokens: Callable[[Any], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """`Options`, with every one of them set."""

    policy: Throttle | Reject | Terminate | str | None = None
    max_wait: float | str | None = None
    default_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    count_tokens: Callable[[Any], int] = estimate_tokens

    def __post_init__(self) -> None:
        tokens: object = self.default_output_tokens
        if type(tokens) is not int or tokens < 1:
            raise ValueError(
                f"default_output_tokens={tokens!r}: give an int of 1 or more, for no answer is free"
            )
        if not callable(self.count_tokens):
            raise TypeError(f"count_tokens={self.count_tokens!r}: give a callable of the prompt")
