"""A real Prometheus for tests, in a folder of its own, and what it answers over HTTP."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

PATIENCE_SECONDS = 30.0
_open = build_opener(ProxyHandler({})).open


def binary(name: str) -> str:
    """Where a program is; skip the test where it is not, but not in continuous integration."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed: apt-get install prometheus")
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Sample:
    """One series of an answer, as it is at one time."""

    labels: dict[str, str]
    value: float

    @property
    def tells(self) -> bool:
        """Whether there is something to see: a number, and not nothing."""
        return math.isfinite(self.value) and self.value != 0


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str

    def page(self, path: str) -> str:
        with _open(f"{self.address}{path}", timeout=PATIENCE_SECONDS) as reply:
            return str(reply.read().decode())

    def ask(self, path: str, **parameters: object) -> Any:
        """The data of an answer of its API; where it refuses, what it said."""
        try:
            answer = json.loads(self.page(f"/api/v1/{path}?{urlencode(parameters)}"))
        except URLError as error:
            reason = getattr(error, "read", lambda: b"")()
            raise AssertionError(f"{parameters}: {error} {reason!r}") from error
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, expression: str, at: float) -> list[Sample]:
        """What an expression is at a time."""
        found = self.ask("query", query=expression, time=at)
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    def value(self, expression: str, at: float) -> float:
        """The same of an expression that is one number."""
        (sample,) = self.query(expression, at)
        return sample.value

    def label_values(self, selector: str, label: str) -> list[str]:
        """What Grafana offers for a variable."""
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": selector})
        return found

    def groups(self) -> list[Any]:
        """Its groups of rules, as they were last evaluated."""
        found: list[Any] = self.ask("rules")["groups"]
        return found

    def is_ready(self) -> bool:
        try:
            return "ready" in self.page("/-/ready").lower()
        except OSError:
            return False


@contextmanager
def running(folder: Path, config: Path, consoles: Path) -> Generator[Prometheus]:
    """A Prometheus that runs in the block."""
    program = binary("prometheus")
    port = free_port()
    flags = {
        "config.file": config,
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "web.console.templates": consoles,
    }
    command = [program, *(f"--{name}={value}" for name, value in flags.items())]
    server = Prometheus(f"http://127.0.0.1:{port}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or server.is_ready(), "Prometheus")
        assert process.poll() is None, (folder / "log").read_text()[-2_000:]
        yield server
    finally:
        process.kill()
        process.wait()
