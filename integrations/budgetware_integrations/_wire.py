"""Looking at the bytes of a response on their way to the caller: events, or one document.

Not here: what the events of each provider mean.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final

from ._billing import Billing, StreamError
from ._model_calls import ModelCall

Look = Callable[[Any], bool]
"""Shown each event that may tell of usage or of an error; whether the caller is to see it, too."""

DONE: Final = "[DONE]"
"""What is shown when a stream says that it is over."""
MOST_BYTES: Final = 16 << 20
"""How much of one event, or document, is kept to look at; what is longer passes unseen."""
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_LONGEST_END: Final = 5
_TELLING: Final = re.compile(rb'sage(?!": ?null)|"error"|\[DONE\]')  # usage, usageMetadata, …
_GZIP_OR_ZLIB: Final = 47


class Events:
    """Server-sent events: each that may tell of usage is shown to `look` before it passes."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._kept = bytearray()
        self.is_over = False
        """The stream has said `[DONE]`."""

    def feed(self, chunk: bytes) -> bytes:
        """Take in what has come; return what is to go on: whole events."""
        kept = self._kept
        unseen = max(0, len(kept) - _LONGEST_END)
        kept += chunk
        passed = bytearray()
        begin = 0
        while end := _BLANK_LINE.search(kept, max(unseen, begin)):
            event = bytes(kept[begin : end.end()])
            begin = end.end()
            if self._passes(event):
                passed += event
        del kept[:begin]
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
        if _TELLING.search(event) is None:
            return True
        lines = _LINE_END.split(event)
        data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
        if data == b"[DONE]":
            self.is_over = True
            self._look(DONE)
            return True
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return True
        return self._look(document)


class Document:
    """One JSON document, shown to `look` when it is whole."""

    is_over = False

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
            except (ValueError, RecursionError):
                pass
        return b""


class Passage:
    """What a body goes through on its way: decoded, looked at, its call ended with it.

    A call ends as soon as its usage is known for good, before the caller has the last of it.
    """

    def __init__(self, call: ModelCall, lens: Events | Document, decoder: Any) -> None:
        self._call, self._lens, self._decoder = call, lens, decoder

    def feed(self, chunk: bytes) -> bytes:
        """Take in what has come; return what is to go on."""
        if self._decoder is not None:
            chunk = self._decoder.decompress(chunk)
        passed = self._lens.feed(chunk)
        call = self._call
        if call.is_broken:
            call.end(StreamError("the provider told of an error in its stream"), broken=True)
        elif call.is_final or self._lens.is_over:
            call.end()
        return passed

    def rest(self) -> bytes:
        """Settle: it was read to its end."""
        tail = b"" if self._decoder is None else self._decoder.flush()
        passed = self._lens.feed(tail) + self._lens.rest() if tail else self._lens.rest()
        self._call.end()
        return passed

    def cut(self, error: BaseException) -> None:
        """Settle: it was not."""
        self._call.end(error, broken=isinstance(error, Exception))


def tee(response: Any, call: ModelCall, look: Look) -> None:
    """End `call` with the body of a response that is still to be read.

    A body compressed by gzip or deflate is decoded on its way; what is compressed otherwise
    passes unseen.

    Args:
        response: of httpx or httpx2, async or sync; its `stream` is replaced.
        call: noted by `look`, ended here: read to its end, closed early, cut by an error.
        look: shown what is read.
    """
    stream = response.stream
    asynchronous, synchronous = _tees(type(response).__module__.split(".")[0])
    kind_of_tee = asynchronous if hasattr(stream, "__aiter__") else synchronous
    response.stream = kind_of_tee(stream, _passage(response, call, look))


def _passage(response: Any, call: ModelCall, look: Look) -> Passage:
    headers = response.headers
    encoding = headers.get("content-encoding", "").strip().lower()
    decoder: Any = None
    if encoding in {"gzip", "deflate"}:
        decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
        for name in ("content-encoding", "content-length"):
            headers.pop(name, None)
    elif encoding not in {"", "identity"}:
        return Passage(call, Document(lambda _document: True), None)
    is_document = "json" in headers.get("content-type", "")  # servers name streams in many ways
    return Passage(call, Document(look) if is_document else Events(look), decoder)


def show(response: Any, look: Look) -> None:
    """Show what a response has that was read already: a document, or events.

    Events that the caller is not to see are taken out of it.
    """
    try:
        content: bytes = response.content
    except RuntimeError:  # not read
        return
    try:
        look(json.loads(content))
    except (ValueError, RecursionError):
        events = Events(look)
        passed = events.feed(content) + events.rest()
        if passed != content:
            response._content = passed


def watch(request: Any, billing: Billing) -> None:
    """Have `billing` told when the body of a request is taken to be sent."""
    kind = _watched(type(request).__module__.split(".")[0])
    if kind is not None and not isinstance(request.stream, kind):
        request.stream = kind(request.stream, billing)


@cache
def _watched(module: str) -> type[Any] | None:
    """A body that tells when it is sent, of httpx or httpx2; None for other clients."""
    if module not in {"httpx", "httpx2"}:
        return None
    http = import_module(module)

    class Watched(http.AsyncByteStream, http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, billing: Billing) -> None:
            self._stream, self._billing = stream, billing

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def __iter__(self) -> Iterator[bytes]:
            self._billing.left()
            yield from self._stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            self._billing.left()
            async for chunk in self._stream:
                yield chunk

        def close(self) -> None:
            self._stream.close()

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Watched


@cache
def _tees(module: str) -> tuple[type[Any], type[Any]]:  # noqa: C901 - two classes
    """The two classes, over those of httpx or httpx2, which look at the type of a stream."""
    http = import_module(module)

    class AsyncTee(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, passage: Passage) -> None:
            self._stream, self._passage = stream, passage

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    passed = self._passage.feed(chunk)
                    if passed:
                        yield passed
                rest = self._passage.rest()
                if rest:
                    yield rest
            except zlib.error as error:
                self._passage.cut(error)
                raise http.DecodingError(str(error)) from error
            except BaseException as error:
                self._passage.cut(error)
                raise

        async def aclose(self) -> None:
            self._passage.cut(GeneratorExit())
            await self._stream.aclose()

    class SyncTee(http.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, passage: Passage) -> None:
            self._stream, self._passage = stream, passage

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    passed = self._passage.feed(chunk)
                    if passed:
                        yield passed
                rest = self._passage.rest()
                if rest:
                    yield rest
            except zlib.error as error:
                self._passage.cut(error)
                raise http.DecodingError(str(error)) from error
            except BaseException as error:
                self._passage.cut(error)
                raise

        def close(self) -> None:
            self._passage.cut(GeneratorExit())
            self._stream.close()

    return AsyncTee, SyncTee
