"""Requests of LangChain's agents whose models and tools hold, whatever middleware makes of them.

What lies between the budget's middleware and the model may ask it again, or ask another: each
attempt is to be paid. Not here: how a model holds (`_langchain_models`), what a refusal is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from langchain.agents.middleware import ModelRequest, ToolCallRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp

from ._langchain_models import Stopped, Way, held
from ._tool_calls import Amounts, Refused, ToolAmounts, amounts_of, run_tool, run_tool_sync

T = TypeVar("T")


class HeldModelRequest(ModelRequest[Any]):
    """Its model holds, and so does each that takes its place."""

    budgetware_way: Way

    def __setattr__(self, name: str, value: Any) -> None:
        way = self.__dict__.get("budgetware_way")
        super().__setattr__(name, _model(value, way) if name == "model" and way else value)

    def override(self, **overrides: Any) -> ModelRequest[Any]:
        return held_model_request(super().override(**overrides), self.budgetware_way)


def held_model_request(request: ModelRequest[Any], way: Way) -> ModelRequest[Any]:
    """Return the same request, of a model that holds."""
    model = _model(request.model, way)
    return _remade(HeldModelRequest, request, model=model, budgetware_way=way)


def _model(model: Any, way: Way) -> Any:
    return held(model, way) if isinstance(model, BaseChatModel) else model


class HeldToolRequest(ToolCallRequest):
    """Its tool holds, and so does each that takes its place."""

    budgetware_amounts: ToolAmounts

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in {"tool", "tool_call"} and "budgetware_amounts" in self.__dict__:
            self.__dict__["tool"] = _tool(self, self.budgetware_amounts)

    def override(self, **overrides: Any) -> ToolCallRequest:
        return held_tool_request(super().override(**overrides), self.budgetware_amounts)


def held_tool_request(request: ToolCallRequest, amounts: ToolAmounts) -> ToolCallRequest:
    """Return the same request, of a tool that holds."""
    tool = _tool(request, amounts)
    return _remade(HeldToolRequest, request, tool=tool, budgetware_amounts=amounts)


def _remade(kind: type[T], request: Any, **changes: Any) -> T:
    made: Any = object.__new__(kind)
    made.__dict__.update(request.__dict__, **changes)
    return cast("T", made)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a call of a tool holds, by what the model has asked."""

    bare: Any
    amounts: ToolAmounts
    arguments: Any

    def of(self, *, is_async: bool) -> Amounts:
        function = _function(self.bare, is_async=is_async)
        return amounts_of(self.amounts, self.bare.name, self.arguments, function)


def _tool(request: ToolCallRequest, amounts: ToolAmounts) -> Any:
    tool: Any = request.tool
    if not isinstance(tool, BaseTool):
        return tool
    earlier: Holding | None = tool.__dict__.get("budgetware_holding")
    bare = tool if earlier is None else earlier.bare
    made: Any = bare.model_copy()
    object.__setattr__(made, "__class__", _subclass(cast("Any", type(bare))))
    made.__dict__["budgetware_holding"] = Holding(bare, amounts, request.tool_call["args"])
    return made


@cache
def _subclass(kind: type[Any]) -> type[Any]:
    """The class of tools of a kind that hold, by the same name; the bare tool in them runs."""
    names: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "invoke": _invoke,
        "ainvoke": _ainvoke,
    }
    return type(kind.__name__, (kind,), names)


def _invoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
    holding: Holding = self.budgetware_holding
    bare = holding.bare
    try:
        return run_tool_sync(
            holding.of(is_async=False),
            bare.name,
            lambda: bare.invoke(input, config, **kwargs),
            free=(GraphBubbleUp,),
        )
    except Refused as error:
        refusal = error
    raise Stopped(refusal)


async def _ainvoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
    holding: Holding = self.budgetware_holding
    bare = holding.bare
    try:
        return await run_tool(
            holding.of(is_async=True),
            bare.name,
            lambda: bare.ainvoke(input, config, **kwargs),
            free=(GraphBubbleUp,),
        )
    except Refused as error:
        refusal = error
    raise Stopped(refusal)


def _function(tool: Any, *, is_async: bool) -> object:
    """What a tool runs, in async code or not."""
    kind, bare = type(tool), cast("Any", BaseTool)
    if is_async:
        own = tool.__dict__.get("coroutine") if "coroutine" in tool.__dict__ else kind._arun
        if own is not None and own is not bare._arun:
            return own
    return getattr(tool, "func", None) or kind._run
