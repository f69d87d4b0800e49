"""Agents that ran, scraped by a Prometheus with our rules and console: the same for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import SHIPPED, Query
from tests.dashboards.prometheus_server import Prometheus, running, wait_for

ROOT = Path(__file__).parent.parent.parent
FLEET = Path(__file__).with_name("fleet.py")


@dataclass(frozen=True)
class Observed:
    """What was scraped until `at`, and what the ledger said then, by payer and dimension."""

    prometheus: Prometheus
    between: float
    at: float
    ledger: dict[str, Any]

    def of_last_round(self, query: Query) -> str:
        """A query whose rates are of that round alone."""
        return query.expression(__rate_interval=f"{(self.at - self.between) * 1000:.0f}ms")


class Fleet:
    """The program that is scraped."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run_round(self) -> dict[str, Any]:
        """Let the agents work once more; what the ledger says after it."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._read())
        return said


@contextmanager
def fleet() -> Generator[Fleet]:
    """Run it; at the end it stops by itself, and without a complaint."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OTEL"}
    environment.pop("BUDGETWARE_MANIFEST", None)
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-W", "error", str(FLEET)]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Fleet(process)
    assert process.returncode == 0


def configuration(folder: Path, port: int) -> Path:
    """The shipped one, with the port of the program and shorter intervals."""
    text = (SHIPPED / "prometheus.yml").read_text(encoding="utf-8")
    for shipped, here in {
        "localhost:9464": f"127.0.0.1:{port}",
        "interval: 5s": "interval: 250ms",
        "rules.yml": str(SHIPPED / "rules.yml"),
    }.items():
        assert shipped in text
        text = text.replace(shipped, here)
    path = folder / "prometheus.yml"
    path.write_text(text, encoding="utf-8")
    return path


def has_seen(prometheus: Prometheus, moment: float) -> bool:
    """Whether a scrape after that moment is stored."""
    found = prometheus.query("timestamp(budgetware_active_tasks)", time.time())
    return any(sample.value > moment for sample in found)


def has_judged(prometheus: Prometheus, moment: float) -> bool:
    """Whether every group of rules was evaluated after that moment."""
    last = [group["lastEvaluation"] for group in prometheus.groups()]
    return all(datetime.fromisoformat(one[:19] + "+00:00").timestamp() > moment for one in last)


_running = ExitStack()


def observe(folder: Path) -> Observed:
    """Let agents work for two rounds: what has grown between two scrapes has a rate."""
    program = _running.enter_context(fleet())
    config = configuration(folder, program.port)
    prometheus = _running.enter_context(running(folder, config, SHIPPED / "consoles"))
    program.run_round()
    between = time.time()
    wait_for(partial(has_seen, prometheus, between), "a scrape")
    said = program.run_round()
    wait_for(partial(has_seen, prometheus, time.time()), "a scrape")
    wait_for(partial(has_judged, prometheus, time.time()), "the rules")
    return Observed(prometheus, between, time.time(), said)


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with _running:
        yield observe(tmp_path_factory.mktemp("prometheus"))


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop them after the last test here: others are to have the machine for themselves."""
    if nextitem is None or nextitem.path.parent != FLEET.parent:
        _running.close()
