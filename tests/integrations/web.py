"""A plain web server on loopback, for what calls no model: one thread per connection."""

import gzip
import select
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from typing import Any, cast
from urllib.parse import urlsplit

PATIENCE_SECONDS = 20
TICK_SECONDS = 0.01
GZIPPED = gzip.compress(b"x" * 5_000)


@dataclass
class Web:
    """A running server: where it is, and which paths were asked for and given up.

    - `/bytes/N`: N bytes; `/chunked/N`: the same in two chunks, without a length.
    - `/gzip`: 5,000 bytes, compressed; `/echo`: the body it was sent.
    - `/redirect`: to `/bytes/3`, with a body of 7 bytes; `/busy`: a 429 with `retry-after: 34`.
    - `/hold`: 4 bytes when `released` is set; `/pause`: 2 of 4 before that; `/cut`: 2 of 4.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list[str])
    hung_up: list[str] = field(default_factory=list[str])
    released: Event = field(default_factory=Event)
    changed: Condition = field(default_factory=Condition)

    def wait_for(self, paths: list[str], count: int = 1) -> None:
        """Wait until a list of paths has so many; for threads."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(paths) >= count, PATIENCE_SECONDS), paths

    def note(self, paths: list[str], path: str) -> None:
        with self.changed:
            paths.append(path)
            self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.web.note(self.web.asked, self.path)
        _, kind, *rest = urlsplit(self.path).path.split("/")
        count = int(rest[0]) if rest else 0
        if kind == "bytes":
            self.answer(b"x" * count)
        elif kind == "chunked":
            self.answer_in_chunks(b"x" * count)
        elif kind == "gzip":
            self.answer(GZIPPED, 200, **{"content-encoding": "gzip"})
        elif kind == "redirect":
            self.answer(b"elsewhe", 302, location="/bytes/3")
        elif kind == "busy":
            self.answer(b"later", 429, **{"retry-after": "34"})
        elif kind == "hold":
            if self.waits():
                self.answer(b"done")
        else:
            self.answer_in_halves(kind)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.web.note(self.web.asked, self.path)
        self.answer(self.read())

    def read(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.head(status, **{"content-length": str(len(body))}, **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_in_chunks(self, body: bytes) -> None:
        self.head(200, **{"transfer-encoding": "chunked"})
        for part in (body[: len(body) // 2], body[len(body) // 2 :], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def answer_in_halves(self, kind: str) -> None:
        self.head(200, **{"content-length": "4"})
        self.wfile.write(b"ha")
        self.wfile.flush()
        if kind == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif self.waits():
            self.wfile.write(b"lf")

    def waits(self) -> bool:
        """Wait until released; whether the client still is there."""
        while not self.web.released.wait(TICK_SECONDS):
            ready, _, _ = select.select([self.connection], [], [], 0)
            if ready and not self.connection.recv(1, socket.MSG_PEEK):
                self.close_connection = True
                self.web.note(self.web.hung_up, self.path)
                return False
        return True


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextmanager
def serve_web() -> Generator[Web]:
    """Run a server on a free port, until the block is left."""
    web = Web()
    handler = cast("type[_Handler]", type("Handler", (_Handler,), {"web": web}))
    with _Server(("127.0.0.1", 0), handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(TICK_SECONDS,), daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.released.set()
            server.shutdown()
            thread.join()
