"""What every adapter may be told of how it holds model calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack, cast

from budgetware import Reject, Terminate, Throttle, task_budget
from budgetware.errors import ConfigurationError, InvalidAmount

from ._estimates import DEFAULT_OUTPUT_TOKENS, estimate_tokens


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


class CallSettings:
    """`Options`, checked, and with every one of them set.

    Raises:
        ConfigurationError: an option that there is not, or that cannot be.
    """

    __slots__ = ("count_tokens", "default_output_tokens", "max_wait", "policy")

    def __init__(self, **options: Unpack[Options]) -> None:
        unknown = sorted(set(options) - set(Options.__annotations__))
        if unknown:
            raise ConfigurationError(
                f"unknown option {unknown[0]!r}: there are {', '.join(Options.__annotations__)}"
            )
        self.policy = _checked_policy(options.get("policy"))
        self.max_wait = options.get("max_wait")
        if self.max_wait is not None:
            Throttle(max_wait=self.max_wait)  # raises where it cannot be
        self.default_output_tokens = options.get("default_output_tokens", DEFAULT_OUTPUT_TOKENS)
        if type(self.default_output_tokens) is not int or self.default_output_tokens < 1:
            raise ConfigurationError(
                f"default_output_tokens={self.default_output_tokens!r}: give an int of 1 or more, "
                "for no answer is free"
            )
        self.count_tokens = options.get("count_tokens", estimate_tokens)
        if not callable(self.count_tokens):
            raise ConfigurationError(
                f"count_tokens={self.count_tokens!r}: give a callable of the prompt"
            )

    def counting(self, count_tokens: Callable[[Any], int]) -> CallSettings:
        """The same, where prompts are counted in another way."""
        return CallSettings(
            policy=self.policy,
            max_wait=self.max_wait,
            default_output_tokens=self.default_output_tokens,
            count_tokens=count_tokens,
        )

    def count(self, prompt: object) -> int:
        """The tokens of a prompt, as `count_tokens` has them."""
        counted: object = self.count_tokens(prompt)
        if type(counted) is not int or counted < 0:
            raise InvalidAmount(f"count_tokens returned {counted!r}: an int of 0 or more is needed")
        return counted


def checked_limits(limits: object) -> dict[str, Any] | None:
    """Return the limits of a run, or raise: a mapping that `task_budget` takes; None: no task.

    Raises:
        ConfigurationError: they are no mapping, empty, or name what `task_budget` does not take.
    """
    if limits is None:
        return None
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigurationError(
            f"limits={limits!r}: give a mapping as of task_budget, such as {{'tokens': 50_000}}"
        )
    checked: dict[str, Any] = dict(cast("Mapping[str, Any]", limits))
    task_budget("limits", **checked)
    return checked


def checked_provider(provider: object) -> None:
    """Raise ConfigurationError unless it names a provider, or is None."""
    if provider is None or (
        isinstance(provider, str) and provider and provider.isprintable() and len(provider) <= 128
    ):
        return
    raise ConfigurationError(
        f"provider={provider!r}: give a text of 1 to 128 printable characters, or None"
    )


def _checked_policy(policy: Any) -> Any:
    if policy is None or isinstance(policy, Throttle | Reject | Terminate):
        return policy
    if policy in {"throttle", "reject", "terminate"}:
        return policy
    raise ConfigurationError(
        f"policy={policy!r}: give 'throttle', 'reject', 'terminate', or an object of these"
    )
