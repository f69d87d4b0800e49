"""The command line as tests run it, and ledgers with something in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    Usage,
    budgeted,
    charge,
    connect,
    task_budget,
)
from budgetware.cli.app import make_app

PRICES = {"gpt": {"input": "1", "output": "2"}}
DAY = 86_400.0
VARIABLES = ("BUDGETWARE_URL", "BUDGETWARE_KEY", "BUDGETWARE_MANIFEST", "NO_COLOR", "TERM")
NOTHING = dict.fromkeys(VARIABLES)


def run(*arguments: object, stdin: str = "", **environment: str | None) -> Result:
    """Run a command in this process."""
    command = [str(argument) for argument in arguments]
    given = {**NOTHING, "COLUMNS": "120", **environment}
    return CliRunner().invoke(make_app(), command, input=stdin, env=given)


def document_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def words(result: Result) -> str:
    """What was printed, blanks made one."""
    return " ".join(result.stdout.split())


def program(*arguments: object) -> list[str]:
    """The command as another process runs it."""
    return [sys.executable, "-W", "error", "-m", "budgetware", *map(str, arguments)]


def environment(**given: str) -> dict[str, str]:
    """The environment of such a process."""
    kept = {name: value for name, value in os.environ.items() if name not in NOTHING}
    root = Path(__file__).parent.parent.parent
    return {**kept, "PYTHONPATH": str(root), "COLUMNS": "100", **given}


def run_program(*arguments: object, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a process."""
    return subprocess.run(
        program(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **given,
    )


class PastClock:
    """The system's clocks, some time ago."""

    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, ago_seconds: float) -> None:
        self._ago_seconds = ago_seconds

    def time(self) -> float:
        return time.time() - self._ago_seconds


@budgeted(tokens=1_000, calls=1, kind="llm", model="gpt", name="think", settle=Usage.of)
def think(given: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": given, "completion_tokens": 0}}


@budgeted(calls=1)
def search() -> None:
    """A tool."""


def define(service: QuotaService) -> None:
    """Have something of each kind."""
    service.define(Resource("org-tokens", Capacity(50_000_000), "reject", dim="tokens"))
    service.define(
        Resource("model", Rate(90_000, "minute"), dim="tokens", parent="org-tokens", max_wait="30s")
    )
    service.define(Resource("browsers", Concurrency(4)))
    service.define_principal("team", quotas={"usd": Capacity("5")})
    service.define_principal(
        "alice",
        parent="team",
        quotas={"tokens": Capacity(1_000_000), "memory": Capacity(256 * 2**20)},
    )
    service.define_principal("ops", exempt=True)


def use(who: str, given: int, *, refused: int = 0) -> None:
    """One call of a model, one of a tool, and some that are refused."""
    with task_budget("research", calls=2, principal=who, policy="reject", tokens=10**6):
        think(given)
        search()
        for _ in range(refused):
            try:
                search()
            except BudgetExceeded:
                pass


@contextmanager
def service_at(address: str, ago_seconds: float = 0.0) -> Generator[QuotaService]:
    """A program that uses a ledger, some time ago."""
    with connect(ledger=address, prices=PRICES, clock=PastClock(ago_seconds)) as service:
        yield service


def make_ledger(folder: Path) -> str:
    """A ledger of three days: alice the day before yesterday, ops and nobody now."""
    address = f"sqlite:///{folder}/budgetware.db"
    with service_at(address, 2 * DAY) as service:
        define(service)
        use("alice", 1_500)
    with service_at(address):
        use("ops", 500, refused=2)
        charge(tokens=7)
    return address
