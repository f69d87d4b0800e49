"""Looking at the bytes of a response on their way to the caller: events, or one document.

Not here: what the events of each provider mean.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final

from ._model_calls import ModelCall

Look = Callable[[Any], bool]
"""Shown each event that may tell of usage; whether the caller is to see it, too."""

MOST_BYTES: Final = 16 << 20
"""How much of one event, or document, is kept to look at; what is longer passes unseen."""
_ENDS: Final = (b"\r\n\r\n", b"\n\n", b"\r\r")


class Events:
    """Server-sent events: each that mentions `usage` is shown to `look` before it passes."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Take in what has come; return what is to go on: whole events."""
        kept = self._kept
        start = max(0, len(kept) - 3)
        kept += chunk
        passed = bytearray()
        while True:
            end = _end_of_event(kept, start)
            if end < 0:
                break
            event = bytes(kept[:end])
            del kept[:end]
            start = 0
            if self._passes(event):
                passed += event
        if len(kept) > MOST_BYTES:
            passed += kept
            kept.clear()
        return bytes(passed)

    def rest(self) -> bytes:
        """Return what is left at the end, which no blank line closed."""
        event = bytes(self._kept)
        self._kept.clear()
        return event if self._passes(event) else b""

    def _passes(self, event: bytes) -> bool:
        if b"sage" not in event:  # usage, usageMetadata, message_delta's usage
            return True
        lines = event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
        try:
            document = json.loads(data)
        except ValueError:
            return True
        return self._look(document)


class Document:
    """One JSON document, shown to `look` when it is whole."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._kept: bytearray | None = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Take in what has come, and pass it on."""
        if self._kept is not None:
            self._kept += chunk
            if len(self._kept) > MOST_BYTES:
                self._kept = None
        return chunk

    def rest(self) -> bytes:
        """Show it."""
        if self._kept:
            try:
                self._look(json.loads(bytes(self._kept)))
            except ValueError:
                pass
        return b""


def _end_of_event(data: bytearray, start: int) -> int:
    """Where the first event ends, its blank line included; -1: it has not yet."""
    found = [(data.find(end, start), len(end)) for end in _ENDS]
    ends = [at + length for at, length in found if at >= 0]
    return min(ends, default=-1)


def tee(response: Any, call: ModelCall, look: Look) -> None:
    """End `call` with the body of a response that is still to be read.

    Args:
        response: of httpx or httpx2, async or sync; its `stream` is replaced.
        call: noted by `look`, ended here: read to its end, closed early, cut by an error.
        look: shown what is read, where it is not compressed.
    """
    kind = response.headers.get("content-type", "")
    encoding = response.headers.get("content-encoding", "identity")
    lens = Events(look) if "event-stream" in kind else Document(look)
    if encoding not in {"", "identity"}:
        lens = Document(lambda _document: True)
    stream = response.stream
    asynchronous, synchronous = _tees(type(response).__module__.split(".")[0])
    kind_of_tee = asynchronous if hasattr(stream, "__aiter__") else synchronous
    response.stream = kind_of_tee(stream, call, lens)


@cache
def _tees(module: str) -> tuple[type[Any], type[Any]]:
    """The two classes, over those of httpx or httpx2, which look at the type of a stream."""
    http = import_module(module)

    class AsyncTee(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, call: ModelCall, lens: Events | Document) -> None:
            self._stream, self._call, self._lens = stream, call, lens

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    passed = self._lens.feed(chunk)
                    if passed:
                        yield passed
                rest = self._lens.rest()
                if rest:
                    yield rest
            except BaseException as error:
                self._call.end(error, broken=isinstance(error, Exception))
                raise
            self._call.end()

        async def aclose(self) -> None:
            self._call.end(None if self._call.is_final else GeneratorExit())
            await self._stream.aclose()

    class SyncTee(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, call: ModelCall, lens: Events | Document) -> None:
            self._stream, self._call, self._lens = stream, call, lens

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    passed = self._lens.feed(chunk)
                    if passed:
                        yield passed
                rest = self._lens.rest()
                if rest:
                    yield rest
            except BaseException as error:
                self._call.end(error, broken=isinstance(error, Exception))
                raise
            self._call.end()

        def close(self) -> None:
            self._call.end(GeneratorExit())
            self._stream.close()

    return AsyncTee, SyncTee
