"""Calls of LiteLLM: what they ask for, what their failures book, how their refusals look.

Not here: how they are reached, which is `litellm`; streams, which are `_litellm_streams`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal, cast

import litellm
from litellm.exceptions import BudgetExceededError

from budgetware import BudgetwareError
from budgetware.errors import BudgetExceeded

from ._billing import Billing, status_of
from ._model_calls import ModelCall
from ._options import CallSettings

_log = logging.getLogger("budgetware.integrations")

PROMPTS: Final = {
    "completion": ("messages", "tools", "functions", "response_format"),
    "text_completion": ("prompt", "suffix"),
    "responses": ("input", "instructions", "tools", "text"),
    "embedding": ("input",),
}
"""The functions that call models, without the `a` of the async ones, and what they send."""

NAMES: Final = tuple(prefix + name for name in PROMPTS for prefix in ("", "a"))
"""All of them."""

_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_POSITIONS: Final = {"aembedding": "embedding", "atext_completion": "text_completion"}
_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""OpenTelemetry's names of providers, or those of genai-prices, where LiteLLM has its own."""


def operation_of(name: str) -> str:
    """Return the key of `PROMPTS` for the name of a function; async or sync."""
    return name if name in PROMPTS else name[1:]


def arguments_of(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names, however they were given.

    Raises:
        TypeError: they are none that the function takes: nothing is held, as nothing is sent.
    """
    signature = _signature(_POSITIONS.get(name, name))
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
    return {**dict(zip(signature.parameters, args, strict=False)), **named}


@cache
def _signature(name: str) -> inspect.Signature:
    return inspect.signature(inspect.unwrap(getattr(litellm, name)))


def model_call(operation: str, asked: Mapping[str, Any], settings: CallSettings) -> ModelCall:
    """Make the call that holds, from the arguments of one of LiteLLM's functions."""
    model, provider = _model_of(asked)
    prompts = PROMPTS[operation]
    is_embedding = operation == "embedding"
    call = ModelCall(
        settings,
        provider=provider,
        model=model,
        prompt={name: asked[name] for name in prompts if asked.get(name) is not None},
        output_tokens=_whole(next((asked[name] for name in _MAXIMA if asked.get(name)), None)),
        answers=_whole(asked.get("n")) or 1,
        kind="embeddings" if is_embedding else "llm",
    )
    call.billing = _Billing()
    return call


def _whole(value: Any) -> Any:
    """A number that was given as a text, which providers take; anything else as it is."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _model_of(asked: Mapping[str, Any]) -> tuple[str | None, str]:
    """The model without its prefix, and who answers."""
    model: Any = asked.get("model")
    provider: Any = asked.get("custom_llm_provider")
    try:
        base = asked.get("api_base") or asked.get("base_url")
        model, provider, _, _ = litellm.get_llm_provider(model, provider, base)
    except Exception as error:
        _log.debug("LiteLLM does not know who answers: %s", error)  # and will say so itself
    name = provider if isinstance(provider, str) else "litellm"
    return (model if isinstance(model, str) else None), _PROVIDERS.get(name, name)


def is_cached(result: Any) -> bool:
    """Say whether LiteLLM's own cache has answered: then nobody was paid."""
    if getattr(result, "custom_llm_provider", None) == "cached_response":
        return True
    hidden = getattr(result, "_hidden_params", None)
    return isinstance(hidden, Mapping) and bool(cast("Mapping[str, Any]", hidden).get("cache_hit"))


def tell_limits(call: ModelCall, result: Any) -> None:
    """Slow down where the provider says so, in the headers of an answer, a stream or an error."""
    hidden = getattr(result, "_hidden_params", None)
    headers = hidden.get("headers") if isinstance(hidden, Mapping) else None
    if not headers:
        headers = getattr(result, "_response_headers", None)
    if not headers:
        headers = getattr(result, "litellm_response_headers", None)
    if isinstance(headers, Mapping) or hasattr(headers, "items"):
        status = status_of(result) if isinstance(result, BaseException) else 200
        lower = {str(name).lower(): str(value) for name, value in cast("Any", headers).items()}
        call.signal(status or 0, lower)


async def start(call: ModelCall) -> None:
    """Hold; what is refused is refused in LiteLLM's way."""
    try:
        await call.start()
    except BudgetwareError as error:
        raise refusal(error) from error


def start_sync(call: ModelCall) -> None:
    """Do the same in sync code."""
    try:
        call.start_sync()
    except BudgetwareError as error:
        raise refusal(error) from error


def asking(
    name: str, asked: Mapping[str, Any], named: dict[str, Any], *, include_usage: bool
) -> tuple[dict[str, Any], bool]:
    """Return the keywords to send, asking for usage; and whether the caller did not ask for it."""
    options = asked.get("stream_options")
    is_told = isinstance(options, Mapping) and options.get("include_usage") is True
    if not (include_usage and asked.get("stream") and "completion" in name) or is_told:
        return named, False
    if options is not None and "stream_options" not in named:
        return named, False
    return {**named, "stream_options": {**(options or {}), "include_usage": True}}, True


def fail(call: ModelCall, error: BaseException) -> None:
    """Settle a call that failed."""
    tell_limits(call, error)
    call.end(error)


class _Billing(Billing):
    """`has_begun`: the first of a stream has come; from then on nothing is free."""

    __slots__ = ("has_begun",)

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = False

    def __call__(self, error: Exception) -> Literal["charge", "release"]:
        return "charge" if self.has_begun else super().__call__(error)


def refusal(error: BudgetwareError) -> BudgetwareError:
    """Make it an error of LiteLLM's, too, for which no `Router` tries again or cools down.

    It stays what it was: `BudgetExceeded`, `BudgetTerminated`, any other; and is a
    `litellm.BudgetExceededError` besides.
    """
    if isinstance(error, BudgetExceededError):
        return error
    plain: Any = type(error)
    kind = _refusal_type(plain)
    made = kind.__new__(kind)
    made.args = error.args
    limit = spent = 0.0
    if isinstance(error, BudgetExceeded):
        limit = float(error.limit or 0)
        spent = max(limit - float(error.available), 0.0)
    BudgetExceededError.__init__(made, spent, limit, message=str(error))
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.plain = error
    return cast("BudgetwareError", made.with_traceback(None))


@cache
def _refusal_type(kind: Any) -> Any:
    def reduce(self: Any) -> tuple[Callable[[BudgetwareError], BudgetwareError], tuple[Any]]:
        return refusal, (self.plain,)

    body = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce__": reduce,
    }
    return type(kind.__name__, (kind, BudgetExceededError), body)
