"""A small OpenAI-compatible server on loopback: streams words, counts tokens, fails on demand."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, cast

WORDS = ("It", " holds", " text", ".")
MODEL = "fake-1"
PING_SECONDS = 0.02


@dataclass
class Behaviour:
    """What the server does; change it while it runs.

    `status` answers instead of a stream; after `breaks_after` chunks the connection is cut; after
    `holds_after` chunks it only pings, until the client hangs up or `released` is set. All that
    happens to the streams whose numbers are in `troubled`.
    """

    status: int = 200
    breaks_after: int | None = None
    holds_after: int | None = None
    troubled: range = range(1_000)
    raw_lines: tuple[str, ...] = ()
    reports_usage: bool = True
    is_llama_cpp: bool = False
    running: int = 0
    models: tuple[str, ...] = (MODEL,)


@dataclass
class ChatServer:
    """One running server and what it saw."""

    url: str
    behaviour: Behaviour
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    keys: list[str | None] = field(default_factory=list[str | None])
    hung_up: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)
    began: Event = field(default_factory=Event)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    lock: Lock = field(default_factory=Lock)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def count(self, prompt: int, completion: int) -> None:
        with self.lock:
            self.prompt_tokens += prompt
            self.completion_tokens += completion


@contextmanager
def chat_server(**behaviour: Any) -> Generator[ChatServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        server = ChatServer(f"http://127.0.0.1:{http.server_port}/v1", Behaviour(**behaviour))
        http.__dict__["chat"] = server
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            http.shutdown()
            thread.join()


def words_in(body: dict[str, Any]) -> int:
    return sum(len(message["content"].split()) for message in body["messages"])


class _Handler(BaseHTTPRequestHandler):
    @property
    def chat(self) -> ChatServer:
        return cast("ChatServer", self.server.__dict__["chat"])

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json({"data": [{"id": name} for name in self.chat.behaviour.models]})
        elif self.path == "/metrics" and self.chat.behaviour.is_llama_cpp:
            self._send(200, self._metrics().encode(), "text/plain")
        else:
            self._error(404, "no such page")

    def do_POST(self) -> None:
        try:
            self._answer()
        except ConnectionError:
            self.chat.hung_up.set()

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        match self.path:
            case "/v1/chat/completions":
                self._complete(body)
            case "/apply-template" if self.chat.behaviour.is_llama_cpp:
                self._json({"prompt": " ".join(m["content"] for m in body["messages"])})
            case "/tokenize" if self.chat.behaviour.is_llama_cpp:
                self._json({"tokens": body["content"].split()})
            case _:
                self._error(404, "no such page")

    def _complete(self, body: dict[str, Any]) -> None:
        chat, behaviour = self.chat, self.chat.behaviour
        with chat.lock:
            is_troubled = len(chat.bodies) in behaviour.troubled
            chat.bodies.append(body)
            chat.keys.append(self.headers.get("authorization"))
        if is_troubled and behaviour.status != 200:
            self._error(behaviour.status, f"status {behaviour.status} on demand")
            return
        self._send(200, b"", "text/event-stream", length=False)
        self._stream(body, is_troubled=is_troubled)

    def _stream(self, body: dict[str, Any], *, is_troubled: bool) -> None:
        chat, behaviour = self.chat, self.chat.behaviour
        chat.count(words_in(body), 0)
        for line in behaviour.raw_lines:
            self._line(line)
        words = WORDS[: body["max_tokens"]]
        for sent, word in enumerate(words):
            if is_troubled and sent == behaviour.breaks_after:
                return
            if is_troubled and sent == behaviour.holds_after:
                self._hold()
            chat.count(0, 1)
            self._event({"choices": [{"index": 0, "delta": {"content": word}}]})
        if behaviour.reports_usage:
            usage = {"prompt_tokens": words_in(body), "completion_tokens": len(words)}
            self._event({"choices": [], "usage": usage})
        self._line("data: [DONE]")

    def _hold(self) -> None:
        self.chat.began.set()
        while not self.chat.released.wait(PING_SECONDS):
            self._line(": still here")

    def _event(self, event: dict[str, Any]) -> None:
        self._line("data: " + json.dumps(event))

    def _line(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\n\n")
        self.wfile.flush()

    def _metrics(self) -> str:
        counters = {
            "prompt_tokens_total": self.chat.prompt_tokens,
            "prompt_tokens_cached_total": 0,
            "tokens_predicted_total": self.chat.completion_tokens,
            "requests_processing": self.chat.behaviour.running,
            "requests_deferred": 0,
        }
        return "".join(f"llamacpp:{name} {value}\n" for name, value in counters.items())

    def _error(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": {"message": message}}).encode(), "application/json")

    def _json(self, answer: dict[str, Any]) -> None:
        self._send(200, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, *, length: bool = True) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        if length:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Keep quiet."""
