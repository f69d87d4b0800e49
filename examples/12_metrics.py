"""Metrics for Prometheus: who spends what, how full each budget is, who waits and who is refused.

`python 12_metrics.py 9464` goes on, for a Prometheus that scrapes that port: `dashboards/` has its
configuration, alerts and dashboards. Without a port it shows some of what a scrape would get.

It prints:

    research admitted chat 1
    gpu throttled chat 1
    research rejected chat 1
"""

import sys
from contextlib import suppress

import anyio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, start_http_server

from budgetware import BudgetExceeded, Concurrency, Resource, Usage, budgeted, connect, task_budget

SHOWN = ("budgetware_budget_name", "budgetware_decision", "gen_ai_operation_name")


@budgeted(tokens=2_000, calls=1, target="gpu", kind="llm", model="small", settle=lambda u: u)
async def think() -> Usage:
    await anyio.sleep(0.02)
    return Usage(input_tokens=400, output_tokens=120)


async def run_agent() -> None:
    async with task_budget("research", tokens=8_000, calls=2, usd="0.25"):
        async with anyio.create_task_group() as group:
            group.start_soon(think)
            group.start_soon(think)  # waits for the other one
        with suppress(BudgetExceeded):
            await think()


async def main(port: str = "") -> None:
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    server, _thread = start_http_server(int(port or 0), "127.0.0.1", registry)
    prices = {"small": {"input": "10", "output": "40"}}  # dollars per million tokens
    service = connect(prices=prices, meter_provider=meters)
    async with service, task_budget("team", usd="10000"):
        service.define(Resource("gpu", Concurrency(1)))
        for _round in range(10**9 if port else 1):
            await run_agent()
            await anyio.sleep(0.1)
    for sample in (sample for family in registry.collect() for sample in family.samples):
        if sample.name == "budgetware_admissions_total":
            print(*(sample.labels[label] for label in SHOWN), f"{sample.value:g}")
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    anyio.run(main, "".join(sys.argv[1:2]))
