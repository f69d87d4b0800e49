"""A program whose agents do everything that the dashboards show, scraped by Prometheus.

It prints the port that it is scraped at; for each line that it reads it runs a round, and prints
what its ledger says as JSON. Between rounds its tasks stay open, and hold what they reserved.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskStatus
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, start_http_server

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    TaskBudget,
    Usage,
    budgeted,
    charge,
    connect,
    reserve_nowait,
    task_budget,
)

PRICES = {"small": {"input": "10", "output": "40"}}
REFUSED = 12
WAITED = 2


@budgeted(tokens=1_000, calls=1, kind="llm", model="small", settle=lambda used: used)
async def think() -> Usage:
    await anyio.sleep(0.015)
    return Usage(input_tokens=400, output_tokens=120)


@budgeted(calls=1, bytes=4_096)
async def fetch() -> None:
    await anyio.sleep(0.001)


@budgeted(tokens=50, calls=1, kind="llm")
async def fail() -> None:
    raise LookupError


@budgeted(target="browsers", calls=1)
async def browse() -> None:
    await anyio.sleep(0.05)


def define(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(100_000), dim="tokens"))
    service.define(Resource("month", Capacity("0.50"), "reject", dim="usd"))
    service.define(Resource("model", Rate(5, "second", max=10)))
    service.define(Resource("browsers", Concurrency(2)))
    service.define_principal("alice", quotas={"tokens": Capacity(20_000)})


async def researcher() -> None:
    for _ in range(3):
        await think()
        await fetch()
    with suppress(LookupError):
        await fail()
    guess = reserve_nowait(tokens=500, usd="0.004")
    with suppress(LookupError), guess:
        raise LookupError
    guess.commit(tokens=20, usd="0.001")  # corrects what was assumed
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(browse)


async def queue_for_the_model(service: QuotaService) -> None:
    while service.resource("model").balance.remaining != 10:  # noqa: ASYNC110 - it refills by itself
        await anyio.sleep(0.05)
    async with QuotaToken("model", 1) as token:
        for _ in range(WAITED):
            async with token.reserve(10) as turn:
                turn.commit()
    token.close()


async def stubborn() -> None:
    async with task_budget("stubborn", calls=1):
        await fetch()
        for _ in range(REFUSED):
            with suppress(BudgetExceeded):
                await fetch()


@task_budget("runaway", calls=1, policy="terminate")
async def runaway() -> None:
    await fetch()
    await fetch()


async def debtor(*, task_status: TaskStatus[None]) -> None:
    """Owe something to the end."""
    async with task_budget("debtor", tokens=100, usd="0.001"):
        charge(tokens=130, usd="0.002")
        task_status.started()
        await anyio.sleep_forever()


async def run_round(service: QuotaService) -> None:
    async with task_budget("research", tokens=50_000, calls=100):
        await researcher()
    await queue_for_the_model(service)
    await stubborn()
    with suppress(BudgetTerminated):
        await runaway()
    charge(calls=1)


def said(fleet: TaskBudget, service: QuotaService) -> dict[str, Any]:
    """The ledger's own numbers: of the task around all others, and of what is shared."""
    payers = [fleet.snapshot(), *(view.snapshot() for view in service.resources())]
    payers += [view.snapshot() for view in service.principals()]
    return {payer.name: payer.to_dict()["dims"] for payer in payers}


async def main() -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    server, _thread = start_http_server(0, "127.0.0.1", registry)
    lines = anyio.wrap_file(sys.stdin)
    async with connect(prices=PRICES, meter_provider=provider) as service:
        define(service)
        limits: dict[str, Any] = {"tokens": 40_000, "calls": 500, "usd": "1", "bytes": 1_000_000}
        async with (
            service.task_budget("fleet", principal="alice", **limits) as fleet,
            QuotaToken("org", 1),
            QuotaToken("month", 1),
            anyio.create_task_group() as debtors,
        ):
            held = [reserve_nowait("browsers"), reserve_nowait(tokens=300, usd="0.01")]
            print(server.server_port, flush=True)
            async for _line in lines:
                await debtors.start(debtor)
                await run_round(service)
                print(json.dumps(said(fleet, service)), flush=True)
            for reservation in held:
                reservation.release()
            debtors.cancel_scope.cancel()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    anyio.run(main)
