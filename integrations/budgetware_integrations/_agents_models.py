"""Models of the OpenAI Agents SDK that hold for their calls. Not here: agents and their tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, cast
from weakref import WeakValueDictionary

import agents
import openai
from agents import FunctionTool, Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest

from budgetware.errors import budget_error

from ._model_calls import ModelCall
from ._options import CallSettings
from ._stainless import listen
from ._streams import each
from ._tool_calls import ONE_CALL, ToolAmounts
from ._wire import show

_ASKED: Final = (
    "system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs",
    "tracing",
)  # fmt: skip
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens")
_OVER_HTTP: Final = (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel)
_OVER_SOCKET: Final = agents.OpenAIResponsesWSModel
_made: WeakValueDictionary[tuple[type[Any], type[Any], int], type[Any]] = WeakValueDictionary()
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a model, or the tools of an agent, are held."""

    settings: CallSettings = field(default_factory=CallSettings)
    provider: str = "openai"
    include_usage: bool = True
    tools: ToolAmounts = field(default_factory=lambda: ONE_CALL)
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str | None = None

    def __deepcopy__(self, _memo: object) -> Way:
        return self


class HeldModel(Model):
    """What a model that holds does; the class of the model itself comes after it."""

    budgetware_way: ClassVar[Way]

    async def get_response(self, *args: Any, **kwargs: Any) -> agents.ModelResponse:
        asked = dict(zip(_ASKED, args, strict=False)) | kwargs
        call, model = _call(self, asked), cast("Any", super())

        async def send() -> agents.ModelResponse:
            try:
                return cast("agents.ModelResponse", await model.get_response(**asked))
            except Exception:
                _note_heard(call)
                raise

        return await call.run(send)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        asked = dict(zip(_ASKED, args, strict=False)) | kwargs
        settings = asked["model_settings"]
        if self.budgetware_way.include_usage and settings.include_usage is None:
            asked["model_settings"] = replace(settings, include_usage=True)
        call, model = _call(self, asked), cast("Any", super())

        def see(event: Any) -> bool:
            if event.type in _ENDS:  # the tools run before the stream is closed
                call.note(event, final=True)
                call.end()
            return True

        await call.start()
        async with aclosing(each(call, model.stream_response(**asked), see)) as events:
            async for event in events:
                yield event

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        if budget_error(request.error) is not None:
            return ModelRetryAdvice(suggested=False, reason="refused by a budget")
        return super().get_retry_advice(request)


def held_model(model: Model, way: Way) -> Model:
    """A model of the same class and the same state, which holds."""
    if isinstance(model, HeldModel):
        return model
    made: Any = object.__new__(subclass_of(HeldModel, type(model), way))
    made.__dict__ = model.__dict__  # whoever closes or inspects either one means both
    return cast("Model", made)


def subclass_of(mixin: type[Any], kind: type[Any], way: Way) -> type[Any]:
    """The class of what is of a kind and holds that way: a copy is of the same one."""
    made = _made.get((mixin, kind, id(way)))
    if made is None:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        made = type(kind.__name__, (mixin, kind), {**names, "budgetware_way": way})
        _made[mixin, kind, id(way)] = made
    return made


def _call(model: HeldModel, asked: Mapping[str, Any]) -> ModelCall:
    way, settings = model.budgetware_way, asked["model_settings"]
    call = ModelCall(
        way.settings,
        provider=way.provider,
        model=getattr(model, "model", None),
        prompt=_prompt(asked),
        output_tokens=_largest(settings, "max_tokens", *_MAXIMA),
        answers=_largest(settings, "n"),
    )
    client = getattr(model, "_client", None)
    over_http = isinstance(model, _OVER_HTTP) and not isinstance(model, _OVER_SOCKET)
    if over_http and isinstance(client, openai.AsyncOpenAI):
        listen(client, call)
    return call


def _largest(settings: Any, *names: str) -> int | None:
    """The largest number under these names, in what is sent beside the settings, too."""
    beside = [settings.extra_args, settings.extra_body]
    places = [vars(settings), *(place for place in beside if isinstance(place, Mapping))]
    given = [place.get(name) for place in places for name in names]
    return max((one for one in given if type(one) is int), default=None)


def _note_heard(call: ModelCall) -> None:
    """Note the usage of an answer that came and was paid for, but was not to the SDK's liking."""
    heard, call.heard = call.heard, None
    if heard is not None and heard.is_success and heard.is_closed:

        def look(answer: Any) -> bool:
            call.note(answer, final=True)
            return True

        show(heard, look)


def _prompt(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent, as it can be counted."""
    schema: Any = asked["output_schema"]
    return {
        "instructions": asked["system_instructions"],
        "input": asked["input"],
        "tools": [_declared(tool) for tool in asked["tools"]],
        "handoffs": [
            (handoff.tool_name, handoff.tool_description, handoff.input_json_schema)
            for handoff in asked["handoffs"]
        ],
        "schema": None if schema is None or schema.is_plain_text() else schema.json_schema(),
    }


def _declared(tool: Any) -> tuple[Any, ...]:
    schema = tool.params_json_schema if isinstance(tool, FunctionTool) else None
    return tool.name, getattr(tool, "description", None), schema
