"""`fallbacks=` of LiteLLM's completions, each model held by itself. Not here: those of a `Router`.

LiteLLM asks the models in turn inside one of its calls; here each is a call of its own, so that it
is held for its own price and size, and charged by how it ended itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from litellm._logging import verbose_logger
from litellm.litellm_core_utils import core_helpers
from litellm.router_utils.add_retry_fallback_headers import add_fallback_headers_to_response

from budgetware.errors import budget_error

_helpers: Any = core_helpers


def has_fallbacks(name: str, asked: Mapping[str, Any]) -> bool:
    """Say whether a call names models to ask in turn, and is of a function that does so."""
    return name in {"completion", "acompletion"} and bool(asked.get("fallbacks"))


async def ask_in_turn(ask: Callable[..., Awaitable[Any]], asked: Mapping[str, Any]) -> Any:
    """Ask the models until one answers; a refusal ends it, and the next is not asked."""
    last: Exception | None = None
    for number, named in enumerate(_attempts(asked)):
        try:
            response = await ask(**named)
        except Exception as error:
            last = _go_on_after(error, named)
        else:
            return add_fallback_headers_to_response(response=response, attempted_fallbacks=number)
    raise _all_failed(last)


def ask_in_turn_sync(ask: Callable[..., Any], asked: Mapping[str, Any]) -> Any:
    """Do the same in sync code."""
    last: Exception | None = None
    for number, named in enumerate(_attempts(asked)):
        try:
            response = ask(**named)
        except Exception as error:
            last = _go_on_after(error, named)
        else:
            return add_fallback_headers_to_response(response=response, attempted_fallbacks=number)
    raise _all_failed(last)


def _attempts(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments for each model, made as LiteLLM makes them."""
    first: Any = asked["model"]
    shared = {name: value for name, value in asked.items() if name not in {"model", "fallbacks"}}
    shared["litellm_call_id"] = str(uuid.uuid4())
    for choice in [first] + asked["fallbacks"]:
        named: dict[str, Any] = _helpers.safe_deep_copy(shared)
        if isinstance(choice, dict):
            named.update({"model": first, **_helpers.safe_deep_copy(dict(choice))})
        else:
            named["model"] = choice
        yield _helpers.filter_internal_params(named)


def _go_on_after(error: Exception, named: Mapping[str, Any]) -> Exception:
    if budget_error(error) is not None:
        raise error
    verbose_logger.error("Fallback attempt failed for model %s: %s", named["model"], error)
    return error


def _all_failed(last: Exception | None) -> Exception:
    """As LiteLLM words it, and of the type it has."""
    return Exception(
        f"{last}. All fallback attempts failed. "
        "Enable verbose logging with `litellm.set_verbose=True` for details."
    )
