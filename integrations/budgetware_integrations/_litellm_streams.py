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
    stream.__class__ = _watching(type(stream))
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
def _watching(kind: type[Any]) -> type[Any]:
    """A subclass of a class of streams, by the same name, that tells of what it does."""

    def step(self: Any) -> Any:
        watched: _Watched = self._budgetware
        try:
            with watched.call.inside():
                item = kind.__next__(self)
        except StopIteration:
            watched.over(self)
            raise
        except BaseException as error:
            watched.cut(self, error)
            raise
        watched.look(self, item)
        return item

    async def step_async(self: Any) -> Any:
        watched: _Watched = self._budgetware
        try:
            with watched.call.inside():
                item = await kind.__anext__(self)
        except StopAsyncIteration:
            watched.over(self)
            raise
        except BaseException as error:
            watched.cut(self, error)
            raise
        watched.look(self, item)
        return item

    async def aclose(self: Any) -> None:
        self._budgetware.cut(self, GeneratorExit())
        await kind.aclose(self)

    def collected(self: Any) -> None:
        self._budgetware.call.end(GeneratorExit())
        if hasattr(kind, "__del__"):
            kind.__del__(self)

    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    body["__del__"] = collected
    if hasattr(kind, "__next__"):
        body["__next__"] = step
    if hasattr(kind, "__anext__"):
        body["__anext__"] = step_async
    if hasattr(kind, "aclose"):
        body["aclose"] = aclose
    return type(kind.__name__, (kind,), body)
