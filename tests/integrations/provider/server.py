"""The server: one thread per connection, counting what reaches it. Not here: the protocols."""

import json
import select
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any, cast
from urllib.parse import unquote

from . import anthropic_wire, gemini_wire, openai_wire
from .behaviour import Behaviour, behaviour_of

TICK_SECONDS = 0.01
PATIENCE_SECONDS = 20.0


@dataclass
class Call:
    """One request for a model, and how it ended: `begun`, `done`, `hung up`, `failed`."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    state: str = "begun"


@dataclass
class Provider:
    """A running provider: where it is, what it saw, what it bills."""

    url: str = ""
    calls: list[Call] = field(default_factory=list[Call])
    released: Event = field(default_factory=Event)
    headers: dict[str, str] = field(default_factory=dict[str, str])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    input_tokens: int = 0
    output_tokens: int = 0
    changed: Condition = field(default_factory=Condition)

    @property
    def tokens(self) -> int:
        """What it has billed: of answers that it gave in full."""
        return self.input_tokens + self.output_tokens

    def wait_for(self, count: int, state: str | None = None) -> None:
        """Wait until so many calls have come, or have ended in `state`; for threads."""
        with self.changed:
            seen = self.changed.wait_for(lambda: self.count(state) >= count, PATIENCE_SECONDS)
        assert seen, [call.state for call in self.calls]

    def count(self, state: str | None = None) -> int:
        """How many calls have come, or are in `state`."""
        return sum(state is None or call.state == state for call in self.calls)

    def bill(self, how: Behaviour) -> None:
        """Count an answer: before its last bytes are sent, so that whoever has them sees it."""
        with self.changed:
            self.input_tokens += how.tokens.prompt
            self.output_tokens += how.tokens.completion

    def end(self, call: Call, state: str) -> None:
        with self.changed:
            call.state = state
            self.changed.notify_all()

    def begin(self, call: Call) -> int:
        with self.changed:
            self.calls.append(call)
            self.changed.notify_all()
            return len(self.calls)


class HungUpError(Exception):
    """The client has gone."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    provider: Provider

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self._document({"object": "list", "data": [{"id": "echo", "object": "model"}]})

    def do_POST(self) -> None:
        data = self._read()
        body: dict[str, Any] = json.loads(data) if data else {}
        path = unquote(self.path.split("?")[0])
        if "count" in path.rpartition("/")[2].lower():
            tokens = behaviour_of("echo", body, {}).tokens.prompt
            self._document({"input_tokens": tokens, "totalTokens": tokens})
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        call = Call(path, body, headers)
        number = self.provider.begin(call)
        model = body.get("model") or path.rpartition("models/")[2].rpartition(":")[0]
        how = behaviour_of(model, body, self.provider.failures)
        try:
            self._answer(call, how, number)
        except (HungUpError, ConnectionError, TimeoutError):
            self.close_connection = True
            self.provider.end(call, "hung up")

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, call: Call, how: Behaviour, number: int) -> None:
        if how.status != 200:
            error = {"message": "no", "type": "x", "code": "x", "status": "X"}
            self._document({"type": "error", "error": error}, how.status)
            self.provider.end(call, "failed")
            return
        if how.word == "hold":
            self._hold()
        events = self._events(call, how, number)
        if events is None:
            if how.word == "cut":
                raise HungUpError
            document = self._whole(call, how, number)
            self.provider.bill(how)
            self._document(document)
        else:
            self._stream(events, how)
        self.provider.end(call, "done")

    def _whole(self, call: Call, how: Behaviour, number: int) -> dict[str, Any]:
        if call.path.endswith("/chat/completions"):
            return openai_wire.chat(how, number)
        if call.path.endswith("/responses"):
            return openai_wire.response(how, number)
        if call.path.endswith("/embeddings"):
            return openai_wire.embeddings(how, call.body)
        if call.path.endswith("/messages"):
            return anthropic_wire.message(how, number)
        if "mbedContent" in call.path:
            return gemini_wire.embeddings(call.body)
        return gemini_wire.content(how)

    def _events(self, call: Call, how: Behaviour, number: int) -> Iterator[Any] | None:
        if "streamGenerateContent" in call.path:
            return gemini_wire.content_stream(how)
        if not call.body.get("stream"):
            return None
        if call.path.endswith("/chat/completions"):
            return openai_wire.chat_stream(how, number, call.body)
        if call.path.endswith("/responses"):
            return openai_wire.response_stream(how, number)
        return anthropic_wire.message_stream(how, number)

    def _document(self, document: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in self.provider.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _stream(self, events: Iterator[Any], how: Behaviour) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        for name, value in self.provider.headers.items():
            self.send_header(name, value)
        self.end_headers()
        every = list(events)
        for sent, (kind, document) in enumerate(every, start=1):
            if sent == len(every):
                self.provider.bill(how)
            data = document if isinstance(document, str) else json.dumps(document)
            event = (f"event: {kind}\n" if kind else "") + f"data: {data}\n\n"
            encoded = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(encoded), encoded))
            self.wfile.flush()
            if sent == 3 and how.word == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                raise HungUpError
            if sent == 3 and how.word == "pause":
                self._hold()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _hold(self) -> None:
        """Wait until released; raise if the client hangs up first."""
        while not self.provider.released.wait(TICK_SECONDS):
            ready, _, _ = select.select([self.connection], [], [], 0)
            if ready and not self.connection.recv(1, socket.MSG_PEEK):
                raise HungUpError


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextmanager
def serve() -> Generator[Provider]:
    """Run a provider on a free port, until the block is left."""
    provider = Provider()
    handler = cast("type[_Handler]", type("Handler", (_Handler,), {"provider": provider}))
    with _Server(("127.0.0.1", 0), handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(TICK_SECONDS,), daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            provider.released.set()
            server.shutdown()
            thread.join()
