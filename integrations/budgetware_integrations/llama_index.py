"""Budgets for LlamaIndex: models, embeddings and tools hold what their calls may cost.

    from budgetware import task_budget
    from budgetware_integrations.llama_index import budget
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.llms.openai import OpenAI

    agent = budget(FunctionAgent(llm=OpenAI(model="gpt-5-nano"), tools=[search]))

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await agent.run("Where do rivers flow?")

`budget` takes an LLM, an embedding model, a tool, an agent (its LLM and its tools) or an
`AgentWorkflow` (all its agents), and returns the same thing; what holds an LLM, as an index or a
query engine does, pays once the LLM was given to `budget`. `isinstance` stays true.

**What is held.** For each call of an LLM, by `chat`, `complete`, their streams and async twins and
all that is built on them (`chat_with_tools`, `structured_predict`, …): one call, and tokens, the
messages and tools by their bytes (`count_tokens=` counts them better), the answer by the largest
`max_tokens` of the call or the LLM; without one, `default_output_tokens=4_096`. For each request
for embeddings its texts, each by its bytes and two tokens more. For each tool one call; `tools=`
says otherwise, as amounts for all of them or as a callable of a tool's name and arguments.
`@budgeted` functions as tools are not held for twice.

**What is settled.** The usage in `response.raw`. Streams of the OpenAI classes report it only when
asked: they are asked, and the extra chunk is kept from you (`include_usage=False` leaves requests
alone). Where nothing was reported, as after a stream that was left early, what was held is charged.
That goes for embeddings, too, of which LlamaIndex keeps the vectors alone: with an exact
`count_tokens=` that is what they cost. One call is held for all attempts of an LLM's own retries.

**When there is not enough.** A tool is not run, and the model reads why as its output (a
`ToolOutput` with `is_error`). A call of a model raises `BudgetExceeded` (or waits, or ends the
task, by the policy), out of a workflow as well. A task that is terminated ends the run at its next
call, and its block raises `BudgetTerminated`. An agent's run that is awaited is cancelled with who
awaits it, where LlamaIndex lets it go on; one whose events are read, or that is only started, is
yours to cancel.

Not held: tools that a `tool_retriever` finds (give them to `budget` before), rerankers, and what a
provider's class offers beside the methods above. Rate-limit headers are seen on errors alone. What
was given to `budget` does not pickle.

Errors: those of LlamaIndex and of `reserve`; `TypeError` where it is nothing of these,
`ConfigurationError` for options that cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Unpack

from budgetware.errors import soft_termination

from ._estimates import estimate_tokens
from ._llama_index_runs import cancelling
from ._model_calls import ModelCall
from ._options import CallSettings, Options, checked_provider
from ._requirements import require
from ._streams import See, each, each_sync
from ._subclasses import Maker, Method, subclass, told
from ._tool_calls import (
    ONE_CALL,
    Amounts,
    Refused,
    ToolAmounts,
    amounts_of,
    checked_tools,
    refusal_text,
    run_tool,
    run_tool_sync,
)

require("llama-index-core", "0.14", "0.15", extra="llama-index")

from llama_index.core.agent.workflow import AgentWorkflow, BaseWorkflowAgent  # noqa: E402
from llama_index.core.base.embeddings.base import BaseEmbedding  # noqa: E402
from llama_index.core.llms import LLM  # noqa: E402
from llama_index.core.tools import AsyncBaseTool, BaseTool, ToolOutput  # noqa: E402

__all__ = ["budget"]

T = TypeVar("T", bound=LLM | BaseEmbedding | BaseTool | BaseWorkflowAgent | AgentWorkflow)

_MAXIMA: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens")
_PROVIDERS: Final = {
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "mistralai": "mistral_ai",
    "vertex": "gcp.vertex_ai",
}


@dataclass(frozen=True, slots=True)
class _Way:
    """How calls are held."""

    settings: CallSettings
    tools: ToolAmounts
    provider: str | None
    include_usage: bool


def budget(
    thing: T,
    *,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    include_usage: bool = True,
    **options: Unpack[Options],
) -> T:
    """Make an LLM, embedding model, tool or agent hold for its calls; returns it.

    Twice is once; what the second time is told besides, or otherwise, goes from then on.

    Args:
        thing: of LlamaIndex.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments.
        provider: who answers, where the package of the LLM does not tell; for prices and spans.
        include_usage: ask streams of the OpenAI classes to report usage, and hide that chunk.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    CallSettings(**options)
    checked_provider(provider)
    now: dict[str, Any] = {**options}
    if checked_tools(tools) is not ONE_CALL:
        now["tools"] = tools
    if provider is not None:
        now["provider"] = provider
    if not include_usage:
        now["include_usage"] = False
    _put(thing, now)
    return thing


def _way_of(about: dict[str, Any]) -> _Way:
    options = {**about}
    tools, provider = options.pop("tools", ONE_CALL), options.pop("provider", None)
    include_usage = options.pop("include_usage", True)
    return _Way(CallSettings(**options), tools, provider, include_usage)


def _put(thing: Any, now: Mapping[str, Any]) -> None:
    match thing:
        case LLM():
            _put_on_llm(thing, told(thing, now))
        case BaseEmbedding():
            _put_on_embeddings(thing, told(thing, now))
        case BaseTool():
            _put_on_tool(thing, told(thing, now))
        case BaseWorkflowAgent():
            for part in (thing.llm, *(thing.tools or ())):
                _put(part, now)
            subclass(thing, {"run": cancelling})
        case AgentWorkflow():
            for agent in thing.agents.values():
                _put(agent, now)
            subclass(thing, {"run": cancelling})
        case _:
            raise TypeError(
                f"budget({type(thing).__name__}): give an LLM, an embedding model, a tool or an "
                "agent of LlamaIndex"
            )


class _Call(ModelCall):
    """A call of an LLM, which is told of usage by the responses of LlamaIndex."""

    __slots__ = ()

    def note(self, reported: Any, *, final: bool = False, output: bool = True) -> None:
        super().note(reported.raw, final=final, output=output)


def _put_on_llm(llm: LLM, about: dict[str, Any]) -> None:
    way = _way_of(about)
    ask, ask_async = _asks(way)
    stream, stream_async = _streams(way)
    makers = {"": ask, "a": ask_async, "stream_": stream, "astream_": stream_async}
    methods = {f"{how}{what}": makers[how] for how in makers for what in ("chat", "complete")}
    subclass(llm, methods, about)


def _asks(way: _Way) -> tuple[Maker, Maker]:
    """What makes the methods that answer as a whole, sync and async."""

    def ask(original: Method) -> Method:
        def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            return _llm_call(self, args, kwargs, way).run_sync(
                lambda: original(self, *args, **kwargs)
            )

        return asked

    def ask_async(original: Method) -> Method:
        async def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await _llm_call(self, args, kwargs, way).run(
                lambda: original(self, *args, **kwargs)
            )

        return asked

    return ask, ask_async


def _streams(way: _Way) -> tuple[Maker, Maker]:
    """What makes those that answer in a stream."""

    def stream(original: Method) -> Method:
        def streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = _llm_call(self, args, kwargs, way)
            sent, see = _asking_for_usage(self, kwargs, call, way)
            call.start_sync()
            try:
                with call.inside():
                    items = original(self, *args, **sent)
            except BaseException as error:
                call.end(error)
                raise
            return each_sync(call, items, see)

        return streamed

    def stream_async(original: Method) -> Method:
        async def streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = _llm_call(self, args, kwargs, way)
            sent, see = _asking_for_usage(self, kwargs, call, way)
            await call.start()
            try:
                with call.inside():
                    items = await original(self, *args, **sent)
            except BaseException as error:
                call.end(error)
                raise
            return each(call, items, see)

        return streamed

    return stream, stream_async


def _llm_call(llm: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], way: _Way) -> _Call:
    asked = args[0] if args else kwargs.get("messages", kwargs.get("prompt"))
    more: Mapping[str, Any] = getattr(llm, "additional_kwargs", None) or {}
    places = (more, kwargs, {name: getattr(llm, name, None) for name in _MAXIMA})
    maxima = [place.get(name) for place in places for name in _MAXIMA]
    return _Call(
        way.settings,
        provider=way.provider or _provider_of(llm),
        model=_model_of(llm, kwargs),
        prompt=(asked, kwargs.get("tools")),
        output_tokens=max((most for most in maxima if isinstance(most, int)), default=None),
        answers=more.get("n", kwargs.get("n", 1)),
    )


def _model_of(llm: Any, kwargs: Mapping[str, Any]) -> str | None:
    for name in (
        kwargs.get("model"),
        getattr(llm, "model", None),
        getattr(llm, "model_name", None),
    ):
        if isinstance(name, str):
            return name
    metadata = getattr(llm, "metadata", None)
    return getattr(metadata, "model_name", None)


def _provider_of(thing: object) -> str:
    """Who answers, as the package of its class tells: `llama_index.llms.openai` is OpenAI's."""
    for kind in type(thing).__mro__:
        parts = kind.__module__.split(".")
        if parts[0] == "llama_index" and parts[1] in {"llms", "embeddings"}:
            return _PROVIDERS.get(parts[2], parts[2])
    return "llama_index"


def _asking_for_usage(
    llm: Any, kwargs: Mapping[str, Any], call: _Call, way: _Way
) -> tuple[Mapping[str, Any], See[Any]]:
    """Ask a stream for usage, where it has to be; what is sent, and what its items tell."""
    own: Mapping[str, Any] = getattr(llm, "additional_kwargs", None) or {}
    given = kwargs.get("stream_options") or {}
    is_asked = way.include_usage and _speaks_chat_completions(llm)
    if not is_asked or "stream_options" in own or given.get("include_usage"):
        return kwargs, _seeing(call, hides=False)
    sent = {**kwargs, "stream_options": {**given, "include_usage": True}}
    return sent, _seeing(call, hides=True)


def _speaks_chat_completions(llm: object) -> bool:
    return any(
        kind.__name__ == "OpenAI" and kind.__module__.startswith("llama_index.llms.openai.")
        for kind in type(llm).__mro__
    )


def _seeing(call: _Call, *, hides: bool) -> See[Any]:
    def see(item: Any) -> bool:
        is_last = getattr(item.raw, "choices", None) == []
        call.note(item, final=is_last)
        return not (hides and is_last)

    return see


def _count_texts(texts: str | list[str]) -> int:
    """Guess the tokens of texts; a short one has more of them than its bytes tell."""
    return sum(2 + estimate_tokens(text) for text in ([texts] if isinstance(texts, str) else texts))


def _put_on_embeddings(model: BaseEmbedding, about: dict[str, Any]) -> None:
    way = _way_of({"count_tokens": _count_texts, **about})

    def call_of(self: Any, asked: object) -> ModelCall:
        return ModelCall(
            way.settings,
            provider=way.provider or _provider_of(self),
            model=self.model_name,
            prompt=asked,
            kind="embeddings",
        )

    def embed(original: Method) -> Method:
        def embedded(self: Any, asked: Any) -> Any:
            return call_of(self, asked).run_sync(lambda: original(self, asked))

        return embedded

    def embed_async(original: Method) -> Method:
        async def embedded(self: Any, asked: Any) -> Any:
            return await call_of(self, asked).run(lambda: original(self, asked))

        return embedded

    what = ("query_embedding", "text_embedding", "text_embeddings")
    requests = {f"_get_{name}": embed for name in what}
    subclass(model, {**requests, **{f"_aget_{name}": embed_async for name in what}}, about)


def _put_on_tool(tool: BaseTool, about: dict[str, Any]) -> None:
    way = _way_of(about)

    def run(original: Method) -> Method:
        def ran(self: Any, *args: Any, **kwargs: Any) -> Any:
            name, amounts = _tool_call(self, args, kwargs, way)
            try:
                with soft_termination():
                    return run_tool_sync(amounts, name, lambda: original(self, *args, **kwargs))
            except Refused as refusal:
                return _refused(name, kwargs, refusal)

        return ran

    def run_async(original: Method) -> Method:
        async def ran(self: Any, *args: Any, **kwargs: Any) -> Any:
            name, amounts = _tool_call(self, args, kwargs, way)
            try:
                with soft_termination():
                    return await run_tool(amounts, name, lambda: original(self, *args, **kwargs))
            except Refused as refusal:
                return _refused(name, kwargs, refusal)

        return ran

    is_async = isinstance(tool, AsyncBaseTool)
    makers = {"call": run, "acall": run_async} if is_async else {"__call__": run}
    subclass(tool, makers, about)


def _tool_call(
    tool: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], way: _Way
) -> tuple[str, Amounts]:
    name = str(tool.metadata.name)
    arguments = kwargs or (args[0] if len(args) == 1 else args)
    return name, amounts_of(way.tools, name, arguments, getattr(tool, "real_fn", None))


def _refused(name: str, arguments: dict[str, Any], refusal: Exception) -> ToolOutput:
    text = refusal_text(refusal)
    return ToolOutput(
        name, text, raw_input=arguments, raw_output=text, is_error=True, exception=refusal
    )
