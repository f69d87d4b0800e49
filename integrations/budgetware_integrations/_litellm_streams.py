"""Streams of LiteLLM, settled by what they have reported when they end. Not here: other calls.

A stream stays the object that LiteLLM has made; its class becomes a subclass of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ._model_calls import ModelCall


def watch(stream: Any, call: ModelCall, *, hides_usage: bool) -> Any:
    """End `call` with a stream: read to its end, closed early, dropped, cut by an error.

    Args:
        stream: of LiteLLM, sync or async; returned.
        call: noted by its chunks, ended here.
        hides_usage: the request asked for usage where the caller did not: the chunk that would
            tell of it stays out of sight.
    """
    if hides_usage and hasattr(stream, "send_stream_usage"):
        stream.send_stream_usage = False
        stream.stream_options = None
    stream._budgetware = _Watched(call)
    kind: Any = type(stream)
    stream.__class__ = _watching(kind)
    return stream


class _Watched:
    """How far a stream has come."""

    __slots__ = ("call", "last", "seen")

    def __init__(self, call: ModelCall) -> None:
        self.call = call
        self.last: Any = None
        self.seen = 0

    def look(self, stream: Any, item: Any = None) -> None:
        """Take in what has come; LiteLLM keeps chunks as the provider sent them.

        The usage it puts together at the end is its own count, where none was reported.
        """
        billing: Any = self.call.billing
        billing.has_begun = True
        chunks = getattr(stream, "chunks", None)
        if not isinstance(chunks, list):
            self.call.note(item, final=True)
            return
        for chunk in chunks[self.seen :]:
            if getattr(chunk, "usage", None) is not None:
                is_whole = stream.received_finish_reason is not None
                self.call.note(chunk.usage, final=is_whole, output=is_whole)
                self.last = chunk.usage
        self.seen = len(chunks)

    def over(self, stream: Any) -> None:
        """Settle: it was read to its end."""
        self.look(stream)
        if self.last is not None:
            self.call.note(self.last, final=True)
        self.call.end()

    def cut(self, stream: Any, error: BaseException) -> None:
        """Settle: it was not."""
        if self.call.is_open:
            self.look(stream)
            self.call.end(error, broken=isinstance(error, Exception))


@cache
def _watching(kind: Any) -> type[Any]:
    """A subclass of a class of streams, by the same name, that tells of what it does."""
    makers = {"__next__": _step, "__anext__": _step_async, "aclose": _aclose}
    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    for name, make in makers.items():
        original = getattr(kind, name, None)
        if original is not None:
            body[name] = make(original)
    body["__del__"] = _collected(getattr(kind, "__del__", None))
    return type(kind.__name__, (kind,), body)


def _step(original: Any) -> Any:
    def step(self: Any) -> Any:
        watched: _Watched = self._budgetware
        try:
            with watched.call.inside():
                item = original(self)
        except StopIteration:
            watched.over(self)
            raise
        except BaseException as error:
            watched.cut(self, error)
            raise
        watched.look(self, item)
        return item

    return step


def _step_async(original: Any) -> Any:
    async def step(self: Any) -> Any:
        watched: _Watched = self._budgetware
        try:
            with watched.call.inside():
                item = await original(self)
        except StopAsyncIteration:
            watched.over(self)
            raise
        except BaseException as error:
            watched.cut(self, error)
            raise
        watched.look(self, item)
        return item

    return step


def _aclose(original: Any) -> Any:
    async def aclose(self: Any) -> None:
        self._budgetware.cut(self, GeneratorExit())
        await original(self)

    return aclose


def _collected(original: Any) -> Any:
    def collected(self: Any) -> None:
        self._budgetware.call.end(GeneratorExit())
        if original is not None:
            original(self)

    return collected
