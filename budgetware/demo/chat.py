"""A chat client: streams completions from any OpenAI-compatible endpoint over httpx.

It knows nothing of budgets. It keeps its own count of the tokens the endpoint reported, so that
the receipt can be compared with something other than the ledger. Not an SDK: one call, streamed.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from .endpoint import Endpoint
from .failures import StreamBroken, failure_of_status, failure_of_transport
from .stream_events import DONE, ReportedTokens, parse_event, text_in, usage_in

CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0
MAX_ERROR_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What to ask, and the most it can cost.

    Attributes:
        prompt_tokens: an upper bound of the prompt's tokens, from `ChatClient.request`.
        max_tokens: the most the model may write.
    """

    messages: tuple[Message, ...]
    prompt_tokens: int
    max_tokens: int

    @property
    def most_tokens(self) -> int:
        """The most this request can cost, in tokens."""
        return self.prompt_tokens + self.max_tokens


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed reply; the last one carries the usage."""

    text: str
    usage: ReportedTokens | None = None


@dataclass(slots=True)
class ReportedUsage:
    """What the endpoint said it used, summed over the streams that came to their end."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, usage: ReportedTokens) -> None:
        """Count one finished stream."""
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]


class ChatClient:
    """Ask one endpoint. Use as an async context manager; safe for several streams at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.reported = ReportedUsage()
        key = endpoint.api_key
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # llama.cpp closes a connection after each stream without saying so beforehand.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def get(self, url: str) -> httpx.Response:
        """Fetch `url`; raises a `ModelFailed` for anything but a 2xx answer."""
        return await self._answer("GET", url, None)

    async def post(self, url: str, body: Mapping[str, object]) -> httpx.Response:
        """Send `body` as JSON; raises a `ModelFailed` for anything but a 2xx answer."""
        return await self._answer("POST", url, body)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """Stream the reply to `request`.

        Closing the generator, or cancelling the task that reads it, closes the connection, and
        the server stops writing.

        Raises:
            ModelFailed: the endpoint cannot be reached, refused, or broke off in the middle.
        """
        usage: ReportedTokens | None = None
        async with aclosing(self._events(request)) as events:
            async for event in events:
                # Some endpoints report on the way, too; only the last report is the bill.
                usage = usage_in(event) or usage
                if text := text_in(event):
                    yield Chunk(text)
        if usage is not None:
            self.reported.add(usage)
        yield Chunk("", usage)

    async def _events(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        url = f"{self.endpoint.url}/chat/completions"
        seen = 0
        try:
            async with self._http.stream("POST", url, json=self._body(request)) as response:
                await self._check(response)
                async with _unwinding(response.aiter_lines()) as lines:
                    async for line in lines:
                        event = parse_event(line, seen)
                        if event is DONE:
                            return
                        if event is not None:
                            seen += 1
                            yield event
        except httpx.HTTPError as error:
            raise failure_of_transport(self.endpoint, error, chunks=seen) from error
        raise StreamBroken(f"{url} ended its stream after {seen} chunks without [DONE]")

    def _body(self, request: ChatRequest) -> dict[str, object]:
        return {
            "model": self.endpoint.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            self.endpoint.limit_name: request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.endpoint.sampling,
        }

    async def _answer(
        self, method: str, url: str, body: Mapping[str, object] | None
    ) -> httpx.Response:
        try:
            response = await self._http.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise failure_of_transport(self.endpoint, error, chunks=0) from error
        await self._check(response)
        return response

    async def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        text = b""
        async with _unwinding(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                text += piece
                if len(text) >= MAX_ERROR_BYTES:
                    break
        raise failure_of_status(self.endpoint, response.status_code, text[:MAX_ERROR_BYTES])


_Piece = TypeVar("_Piece")


@asynccontextmanager
async def _unwinding(pieces: AsyncIterator[_Piece]) -> AsyncGenerator[AsyncIterator[_Piece]]:
    """End an iterator of httpx from within, however the block is left.

    It is a stack of generators; closing the outer one would leave the others to the garbage
    collector, which cannot close connections on trio. A cancelled read unwinds them all.
    """
    try:
        yield pieces
    finally:
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in pieces:
                pass
