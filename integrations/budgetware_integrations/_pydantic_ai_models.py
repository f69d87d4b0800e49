"""Models of Pydantic AI that hold for their requests, and the runs that they are part of.

Not here: the capability that puts them into agents.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import anyio
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from budgetware import TaskBudget
from budgetware.errors import soft_termination

from ._model_calls import ModelCall
from ._options import CallSettings
from ._stainless import answers_of, listen, most_of

T = TypeVar("T")

_MAXIMA: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a model are held."""

    settings: CallSettings = field(default_factory=CallSettings)
    provider: str | None = None


@dataclass(slots=True)
class Run:
    """A run that is a task, and what it awaits now.

    The task's own scope is not around that: Pydantic AI runs `wrap_run` beside the run, and each
    step in tasks of its own. So what is awaited is cut one by one.
    """

    budget: TaskBudget
    awaited: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])


current_run: ContextVar[Run | None] = ContextVar("budgetware_pydantic_ai_run", default=None)


async def cut_short(work: Callable[[], Awaitable[T]]) -> T:
    """Await some work of a run, until its task ends."""
    run = current_run.get()
    if run is None:
        return await work()
    with anyio.CancelScope() as scope:
        run.awaited.add(scope)
        try:
            return await work()
        finally:
            run.awaited.discard(scope)
    with soft_termination():
        run.budget.checkpoint()
    raise AssertionError("work was cut short, though its task goes on")


def held(model: Model, way: Way) -> Model:
    """Return a model around another that holds; for each of those that a fallback tries."""
    if isinstance(model, HeldModel | HeldFallback):
        return model
    if isinstance(model, FallbackModel):
        return HeldFallback(model, way)
    return HeldModel(model, way)


class HeldModel(WrapperModel):
    """Holds for each request of the model in it."""

    def __init__(self, wrapped: Model, way: Way) -> None:
        super().__init__(wrapped)
        self._way = way

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        call = self._call(messages, model_settings, model_request_parameters)
        request = self.wrapped.request
        return await cut_short(
            lambda: call.run(lambda: request(messages, model_settings, model_request_parameters))
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        call = self._call(messages, model_settings, model_request_parameters)
        stream: StreamedResponse | None = None
        await call.start()
        try:
            async with AsyncExitStack() as stack:
                opening = self.wrapped.request_stream(
                    messages, model_settings, model_request_parameters, run_context
                )
                with call.inside():
                    stream = await cut_short(lambda: stack.enter_async_context(opening))
                yield stream
        except BaseException as error:
            _note(call, stream)
            call.end(error, broken=stream is not None and isinstance(error, Exception))
            raise
        call.end(None if _note(call, stream) else GeneratorExit())

    def _call(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> ModelCall:
        model, way = self.wrapped, self._way
        settings: Mapping[str, Any] = {**(model.settings or {}), **(model_settings or {})}
        extra: Any = settings.get("extra_body")
        places = [settings, cast("Mapping[str, Any]", extra if isinstance(extra, Mapping) else {})]
        call = ModelCall(
            way.settings,
            provider=way.provider or model.system,
            model=model.model_name,
            prompt=_prompt(messages, parameters),
            output_tokens=max(most_of(place, *_MAXIMA) or 0 for place in places),
            answers=max(answers_of(place, "n") for place in places),
        )
        client = getattr(model, "client", None)
        if any(kind.__name__ == "AsyncAPIClient" for kind in type(client).__mro__):
            listen(client, call)
        return call


class HeldFallback(WrapperModel):
    """Tries models as the `FallbackModel` in it does, and holds for each of them."""

    def __init__(self, wrapped: FallbackModel, way: Way) -> None:
        super().__init__(wrapped)
        self._chain = copy.copy(wrapped)  # the one that is wrapped is entered and left, not this
        self._chain.models = [held(model, way) for model in wrapped.models]

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self._chain.request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        async with self._chain.request_stream(
            messages, model_settings, model_request_parameters, run_context
        ) as stream:
            yield stream


def _note(call: ModelCall, stream: StreamedResponse | None) -> bool:
    """Note what a stream used; says whether it was read to its end."""
    if stream is None:
        return False
    response = stream.get()
    is_whole = response.state not in {"incomplete", "interrupted"}
    call.note(response, final=is_whole, output=is_whole)
    return is_whole


# What is asked of a model.


def _prompt(messages: list[ModelMessage], parameters: ModelRequestParameters) -> dict[str, Any]:
    """What is sent, as it can be counted."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    schema = parameters.output_object
    return {
        "messages": [counted for message in messages for counted in _parts(message)],
        "instructions": _instructions(messages, parameters),
        "tools": [(tool.name, tool.description, tool.parameters_json_schema) for tool in tools],
        "schema": None if schema is None else schema.json_schema,
    }


def _instructions(messages: list[ModelMessage], parameters: ModelRequestParameters) -> list[str]:
    if parameters.instruction_parts:
        return [part.content for part in parameters.instruction_parts]
    asked = [message for message in messages if isinstance(message, ModelRequest)]
    return [asked[-1].instructions] if asked and asked[-1].instructions else []


def _parts(message: ModelMessage) -> list[dict[str, Any]]:
    return [_part(part) for part in message.parts]


def _part(part: Any) -> dict[str, Any]:
    """A part of a message, without what is kept of it on this side alone."""
    if hasattr(part, "tool_name") and hasattr(part, "args"):
        return {"role": part.part_kind, "name": part.tool_name, "args": part.args}
    content = getattr(part, "content", None)
    if isinstance(content, list | tuple):
        content = [item if isinstance(item, str) else _media(item) for item in content]
    elif not isinstance(content, str | Mapping):
        content = _media(content)
    return {"role": part.part_kind, "content": content}


def _media(item: Any) -> Any:
    """An image, a sound, a file: a text that stands for its content, which may be an address."""
    if getattr(item, "kind", None) in {"image-url", "audio-url", "video-url", "document-url"}:
        return b""
    return getattr(item, "data", item)
