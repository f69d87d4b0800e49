"""A server that answers each request with the next of some answers, to the byte; the last for ever.

For what providers send that the local one (`provider`) does not: odd chunks, compression, headers.
"""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Answer:
    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Canned:
    """Where it is, and what came: bodies and headers, lower case."""

    url: str = ""
    bodies: list[Any] = field(default_factory=list[Any])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    paths: list[str] = field(default_factory=list[str])


def document(content: Any, status: int = 200, **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(json.dumps(content).encode(), status=status, headers=names)


def events(*contents: Any, done: bool = True, headers: dict[str, str] | None = None) -> Answer:
    """Server-sent events; those with a `type` carry it as their name, too."""
    lines: list[str] = []
    for content in contents:
        name = f"event: {content['type']}\n" if "type" in content else ""
        lines.append(f"{name}data: {json.dumps(content)}\n\n")
    body = "".join(lines) + ("data: [DONE]\n\n" if done else "")
    return Answer(body.encode(), "text/event-stream", headers=headers or {})


@contextmanager
def canned(*answers: Answer) -> Generator[Canned]:
    """Run the server on a free port, until the block is left."""
    log = Canned()
    handler = type("Handler", (_Handler,), {"log": log, "answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        log.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield log
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    log: Canned
    answers: Sequence[Answer]

    def log_message(self, format: str, *args: object) -> None: ...

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.log.bodies.append(json.loads(data) if data else None)
        self.log.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.log.paths.append(self.path)
        answer = self.answers[min(len(self.log.bodies), len(self.answers)) - 1]
        self.send_response(answer.status)
        self.send_header("content-type", answer.kind)
        self.send_header("content-length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
