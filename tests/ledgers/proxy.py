"""A proxy between a ledger and its server that loses, repeats and holds back replies, and cuts.

Not here: the servers (`valkey`).
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Literal

Action = Literal["lose", "twice", "hold", "cut", "cut before"]
CHUNK = 1 << 20


class Proxy:
    """Passes on what comes, but for what `plan` says of the next replies.

    Attributes:
        plan: for each reply to come: `"lose"` it; send it `"twice"`; `"hold"` it until `release`;
            `"cut"` the connection instead; `"cut before"`: the request is lost, too.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.plan: deque[Action] = deque()
        self.release = Event()
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._sockets |= {near, far}
            for work in (self._ask, self._answer):
                thread = Thread(target=work, args=(near, far))
                self._threads.append(thread)
                thread.start()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(CHUNK):
                if self.plan and self.plan[0] == "cut before":
                    self.plan.popleft()
                    break
                far.sendall(data)
        self._end(near, far)

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(CHUNK):
                action = self.plan.popleft() if self.plan else None
                if action == "lose":
                    continue
                if action == "hold":
                    self.release.wait()
                if action == "cut":
                    break
                near.sendall(data * 2 if action == "twice" else data)
        self._end(near, far)

    def _end(self, near: socket.socket, far: socket.socket) -> None:
        with self._lock:
            self._sockets -= {near, far}
            for each in (near, far):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
