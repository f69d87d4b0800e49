"""LiteLLM's callbacks, told of each attempt of a call. Not here: its functions (`litellm`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack
from weakref import WeakValueDictionary

from litellm.integrations.custom_logger import CustomLogger

from budgetware.errors import budget_error

from . import _litellm_calls as calls
from ._model_calls import ModelCall, current_call
from ._options import CallSettings, Options


class _Held:
    """A call that a callback has started: ended, or collected with what LiteLLM knows of it."""

    __slots__ = ("__weakref__", "call")

    def __init__(self, call: ModelCall) -> None:
        self.call = call


_open: WeakValueDictionary[str, _Held] = WeakValueDictionary()
"""By LiteLLM's id; of all callbacks, for LiteLLM tells one of what another was asked."""


class BudgetCallback(CustomLogger):
    """Hold for async calls of LiteLLM, by its callbacks: `litellm.callbacks.append(...)`.

    Args:
        include_usage: ask streams to report usage; that chunk reaches the caller.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """

    def __init__(self, *, include_usage: bool = True, **options: Unpack[Options]) -> None:
        super().__init__()
        self._settings = CallSettings(**options)
        self._include_usage = include_usage

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Hold, before each attempt of a call; what is refused is not sent."""
        name = str(getattr(call_type, "value", call_type))
        about = kwargs.get("litellm_logging_obj")
        if name not in calls.NAMES or about is None or _is_held(about):
            return None
        call = calls.model_call(calls.operation_of(name), kwargs, self._settings)
        await calls.start(call)
        # Kept by what lives as long as the call: nobody tells of one that was cancelled.
        about.budgetware_call = _open[str(kwargs.get("litellm_call_id"))] = _Held(call)
        return calls.asking(name, kwargs, kwargs, include_usage=self._include_usage)[0]

    async def async_post_call_success_deployment_hook(
        self,
        request_data: dict[str, Any],
        response: Any,
        call_type: Any,  # noqa: ARG002 - as the hook has it
    ) -> Any:
        """Settle to what an answer reports, one that is not streamed."""
        self._end(request_data, response)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,  # noqa: ARG002 - as the hook has it
        fallback_depth: int | None = None,  # noqa: ARG002
    ) -> None:
        """Settle after a failure, as it was billed or not."""
        call = _take(request_data)
        if call is not None:
            calls.fail(call, exception)

    async def async_log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,
        start_time: Any,  # noqa: ARG002 - as the hook has it
        end_time: Any,  # noqa: ARG002
    ) -> None:
        """Settle a stream that was read to its end, and what a cache has answered."""
        self._end(kwargs, response_obj)

    async def async_log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: Any,  # noqa: ARG002 - as the hook has it
        start_time: Any,  # noqa: ARG002
        end_time: Any,  # noqa: ARG002
    ) -> None:
        """Settle a stream that broke."""
        call = _take(kwargs)
        error = kwargs.get("exception")
        if call is not None and budget_error(error) is None:
            is_error = isinstance(error, BaseException)
            call.end(error if is_error else RuntimeError("the stream broke"), broken=True)

    def _end(self, asked: Mapping[str, Any], response: Any) -> None:
        call = _take(asked)
        if call is None:
            return
        calls.tell_limits(call, response)
        if calls.is_cached(response) or asked.get("cache_hit"):
            call.release()
            return
        call.note(response, final=True)
        call.end()


def _take(asked: Mapping[str, Any]) -> ModelCall | None:
    held = _open.pop(str(asked.get("litellm_call_id")), None)
    return None if held is None else held.call


def _is_held(about: Any) -> bool:
    """Say whether somebody pays already: a function that holds, or a callback added twice."""
    held = getattr(about, "budgetware_call", None)
    return current_call() is not None or (isinstance(held, _Held) and held.call.is_open)
