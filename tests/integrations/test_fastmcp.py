"""Tools of FastMCP servers hold, and so do its clients; what both SDKs share is tested with mcp."""

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from anyio import to_thread
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError
from fastmcp.server import create_proxy
from fastmcp.server.dependencies import get_http_headers
from mcp_types import CallToolResult, TextContent

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Resource,
    budgeted,
    connect,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError, LedgerUnavailable
from budgetware_integrations.fastmcp import BUDGET_KEY, BudgetMiddleware, TokenPart, wrap
from tests.integrations.mcp_tools import AUDIENCE, KEYS, Tools, define

NEEDS = "fastmcp"
PATIENCE_SECONDS = 20
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
"""FastMCP runs on asyncio alone."""


@pytest.fixture
async def service() -> AsyncIterator[QuotaService]:
    async with connect(token_keys=KEYS) as opened:
        yield opened


def alice(_context: Any) -> str:
    return "alice"


def server(tools: Tools | None = None, **options: Any) -> FastMCP[Any]:
    known = tools or Tools()
    made: FastMCP[Any] = FastMCP("tools", **options)

    @made.tool
    async def hello(name: str = "you") -> str:
        known.ran.append(name)
        return f"hello {name}"

    @made.tool
    async def think(tokens: int) -> int:
        async with reserve(tokens=tokens):
            return tokens

    @made.tool
    def in_a_thread(tokens: int) -> dict[str, int]:
        with reserve(tokens=tokens):
            return {"tokens": tokens}

    _add_bad_ones(made, known)
    return made


def _add_bad_ones(made: FastMCP[Any], known: Tools) -> None:
    @made.tool
    async def stubborn() -> str:
        for _ in range(50):
            known.ran.append("turn")
            try:
                async with reserve(tokens=4):
                    pass
            except Exception:
                continue
        return "went on for ever"

    @made.tool
    async def wait() -> str:
        known.ran.append("wait")
        await known.go_on.wait()
        return "waited"

    @made.tool
    async def fail() -> str:
        raise ValueError("broken")

    @made.tool
    async def says() -> str:
        try:
            async with reserve(tokens=1_000):
                return "had enough"
        except BudgetExceeded as error:
            raise ToolError("my own words") from error

    @made.tool
    @budgeted(calls=2)
    async def paid() -> str:
        return "paid"


def guarded(tools: Tools | None = None, **options: Any) -> FastMCP[Any]:
    made = server(tools)
    made.add_middleware(BudgetMiddleware(**options))
    return made


@asynccontextmanager
async def client_of(target: Any, **options: Any) -> AsyncGenerator[Client[Any]]:
    client: Client[Any] = Client(target)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with wrap(client, **options) if options else client:
            yield client


def text_of(result: CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, TextContent)
    return block.text


def told(result: Any) -> Any:
    return (result.meta or {})[BUDGET_KEY]


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS, shield=True):
        while not is_true():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.001)


@pytest.mark.parametrize("tool", ["hello", "fail", "missing", "says"])
async def test_results_and_errors_are_as_without(tool: str, anyio_backend: Any) -> None:
    made, plain = guarded(limits={"tokens": 500}), server()
    async with client_of(made) as client, client_of(plain) as bare:
        ours = await client.call_tool_mcp(tool, {})
        async with task_budget(tokens=500):
            theirs = await bare.call_tool_mcp(tool, {})
    assert ours.content == theirs.content
    assert ours.structured_content == theirs.structured_content
    assert ours.is_error == theirs.is_error
    rest = {key: value for key, value in (ours.meta or {}).items() if key != BUDGET_KEY}
    assert rest == (theirs.meta or {})


async def test_results_keep_their_types(anyio_backend: Any) -> None:
    async with client_of(guarded(), delegate={"tokens": 9}) as client:
        assert (await client.call_tool("think", {"tokens": 7})).data == 7
        assert (await client.call_tool("in_a_thread", {"tokens": 7})).data == {"tokens": 7}


async def test_a_refusal_can_be_read_by_models_and_programs(
    service: QuotaService, anyio_backend: Any
) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Capacity(1)})
    async with client_of(guarded(tools, principal=alice, service=service)) as client:
        assert (await client.call_tool("hello")).data == "hello you"
        result = await client.call_tool_mcp("hello", {})
        assert "principal 'alice' has 0 of 1 calls left" in text_of(result)
        assert told(result)["refused"]["remaining"] == 0
        with pytest.raises(ToolError, match="alice"):
            await client.call_tool("hello")
        assert await client.list_tools()
    assert tools.ran == ["you"]


async def test_of_a_hundred_at_once_exactly_as_many_as_are_paid_for_run(
    service: QuotaService, anyio_backend: Any
) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Capacity(10)})
    results: list[bool] = []
    async with client_of(guarded(tools, principal=alice, service=service)) as client:

        async def call() -> None:
            results.append((await client.call_tool_mcp("hello", {})).is_error)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(call)
    assert len(tools.ran) == 10
    assert results.count(True) == 90


async def test_of_a_clients_hundred_exactly_as_many_as_it_can_pay_are_sent(
    anyio_backend: Any,
) -> None:
    tools = Tools()
    async with (
        client_of(server(tools), tools={"calls": 1}) as client,
        task_budget(calls=10) as budget,
    ):
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(client.call_tool_mcp, "hello", {})
        assert len(tools.ran) == budget.spent("calls") == 10


async def test_a_throttled_call_waits_its_turn(service: QuotaService, anyio_backend: Any) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Resource("slots", Concurrency(2))})
    async with (
        client_of(guarded(tools, principal=alice, service=service)) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(6):
            group.start_soon(client.call_tool, "wait")
        await until(lambda: len(tools.ran) == 2)
        await anyio.wait_all_tasks_blocked()
        assert len(tools.ran) == 2
        tools.go_on.set()
    assert len(tools.ran) == 6


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("tool", ["think", "in_a_thread"])
async def test_a_refusal_inside_a_tool_is_told_to_the_model(
    tool: str, masks: bool, anyio_backend: Any
) -> None:
    made = server(mask_error_details=masks)
    made.add_middleware(BudgetMiddleware(limits={"tokens": 10}))
    async with client_of(made) as client:
        result = await client.call_tool_mcp(tool, {"tokens": 11})
    assert text_of(result).startswith("Refused by the budget: budget 'tool-call' has 10 of 10")
    assert told(result)["charged"] == {"calls": 1}
    assert told(result)["refused"]["requested"] == 11


async def test_a_tool_may_say_it_in_its_own_words(anyio_backend: Any) -> None:
    async with client_of(guarded(limits={"tokens": 10})) as client:
        result = await client.call_tool_mcp("says", {})
    assert text_of(result) == "my own words"
    assert told(result)["refused"]["dim"] == "tokens"


async def test_a_terminated_call_ends_no_other(anyio_backend: Any) -> None:
    tools = Tools()
    made = guarded(tools, limits={"tokens": 10}, policy="terminate")
    async with client_of(made) as client, anyio.create_task_group() as group:
        calm: list[Any] = []

        async def wait() -> None:
            calm.append((await client.call_tool("wait")).data)

        group.start_soon(wait)
        await until(lambda: tools.ran)
        result = await client.call_tool_mcp("stubborn", {})
        assert told(result)["refused"]["type"] == "BudgetTerminated"
        tools.go_on.set()
    assert tools.ran.count("turn") <= 4
    assert calm == ["waited"]


async def test_a_call_that_is_cancelled_is_charged_on_both_sides(
    service: QuotaService, anyio_backend: Any
) -> None:
    tools = Tools()
    view = service.define_principal("alice", quotas={"calls": Capacity(10)})
    async with (
        client_of(guarded(tools, principal=alice, service=service), tools={"calls": 1}) as client,
        task_budget(calls=10) as budget,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "wait")
            await until(lambda: tools.ran)
            group.cancel_scope.cancel()
        assert budget.spent("calls") == 1
        await until(lambda: view.snapshot()["calls"].spent == 1)
        assert (await client.call_tool("hello")).data == "hello you"


async def test_a_failure_is_charged_unless_the_server_says_otherwise(anyio_backend: Any) -> None:
    lent = {"tokens": 100}
    for on_error, charged in (("charge", {"calls": 1}), ("release", {})):
        async with client_of(guarded(on_error=on_error), delegate=lent) as client:
            async with task_budget(tokens=1_000) as budget:
                result = await client.call_tool_mcp("fail", {})
                assert text_of(result) == "Error calling tool 'fail': broken"
                assert told(result) == {"charged": charged}
                missing = await client.call_tool_mcp("missing", {})
                assert told(missing) == {"charged": {}}
            assert budget.spent("tokens") == 0


async def test_a_tool_that_is_budgeted_holds_for_itself(anyio_backend: Any) -> None:
    async with client_of(guarded()) as client:
        assert told(await client.call_tool("paid")) == {"charged": {"calls": 2}}


async def test_a_client_settles_to_what_the_server_charged(anyio_backend: Any) -> None:
    async with (
        client_of(guarded(), delegate={"tokens": 500}) as client,
        task_budget(tokens=1_000) as budget,
    ):
        await client.call_tool("think", {"tokens": 120})
        assert budget.spent("tokens") == 120
        with pytest.raises(ToolError, match="budget 'caller' has 500 of 500 tokens left"):
            await client.call_tool("think", {"tokens": 501})
        assert budget.spent("tokens") == 120


async def test_a_clients_own_refusals_are_its_frameworks_own(anyio_backend: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), tools={"calls": 1}) as client, task_budget(calls=1):
        await client.call_tool("hello")
        with pytest.raises(ToolError, match="has 0 of 1 calls left"):
            await client.call_tool("hello")
        assert (await client.call_tool("hello", raise_on_error=False)).is_error
    async with client_of(server(tools), raises=True) as client, task_budget(calls=1):
        await client.call_tool("hello")
        with pytest.raises(BudgetExceeded):
            await client.call_tool("hello")
    assert len(tools.ran) == 2


async def test_a_clients_own_task_that_is_terminated_raises(anyio_backend: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), tools={"calls": 1}) as client:

        async def loop() -> None:
            async with task_budget(calls=3, policy="terminate"):
                for _ in range(30):
                    await client.call_tool("hello")

        with pytest.raises(BudgetTerminated):
            await loop()
    assert len(tools.ran) == 3


async def test_limits_that_cannot_be_are_refused_softly(anyio_backend: Any) -> None:
    tools = Tools()
    async with client_of(guarded(tools)) as client:
        for sent in ("text", {"limits": {"tokens": -1}}, {"limits": {"gremlins": 5}}):
            result = await client.call_tool_mcp("hello", {}, meta={BUDGET_KEY: sent})
            assert told(result)["refused"]["type"] == "InvalidAmount"
    assert tools.ran == []


async def test_a_copy_of_a_client_holds_too(anyio_backend: Any) -> None:
    client = wrap(Client(server()), tools={"calls": 1})
    assert wrap(client) is client
    async with client.new() as copy, task_budget(calls=5) as budget:
        assert isinstance(copy, Client)
        await copy.call_tool("hello")
        assert budget.spent("calls") == 1


async def test_a_mounted_server_holds_inside_the_call_of_the_other(anyio_backend: Any) -> None:
    outer: FastMCP[Any] = FastMCP("outer")
    outer.add_middleware(BudgetMiddleware(limits={"tokens": 10}))
    outer.mount(guarded(limits={"tokens": 100}), namespace="inner")
    async with client_of(outer) as client:
        result = await client.call_tool_mcp("inner_think", {"tokens": 11})
        assert "budget 'tool-call' has 10 of 10 tokens left" in text_of(result)
        fine = await client.call_tool("inner_think", {"tokens": 9})
        assert told(fine) == {"charged": {"calls": 2, "tokens": 9}}


async def test_over_http_the_principal_may_come_of_a_header(
    service: QuotaService, anyio_backend: Any
) -> None:
    tools = Tools()

    def who(_context: Any) -> str | None:
        return get_http_headers().get("x-user")

    service.define_principal("alice", quotas={"calls": Capacity(2)})
    app = guarded(tools, principal=who, service=service).http_app()
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="on", ws="none")
    running = uvicorn.Server(config)
    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, lambda: running.run())  # noqa: PLW0108 - for mypy
        try:
            await until(lambda: running.started)
            port = running.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/mcp"
            transport = StreamableHttpTransport(url, headers={"x-user": "alice"})
            async with client_of(transport, delegate={"tokens": 50}) as client:
                with task_budget(tokens=100) as budget:
                    await client.call_tool("think", {"tokens": 20})
                    await client.call_tool("hello")
                    refused = await client.call_tool_mcp("hello", {})
            assert budget.spent("tokens") == 20
            assert told(refused)["refused"]["budget"] == "alice"
        finally:
            running.should_exit = True


async def test_a_token_goes_to_a_server_of_the_other_sdk(
    tmp_path: Path, anyio_backend: Any
) -> None:
    ledger = tmp_path / "ledger.db"
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"}
    script = str(ROOT / "tests/integrations/mcp_tools.py")
    transport = StdioTransport(sys.executable, [script, str(ledger)], env=env)
    async with connect(ledger=f"sqlite:///{ledger}", token_keys=KEYS) as service:
        define(service)
        token = QuotaToken("shared", 100, allowance=5_000, service=service)
        part = TokenPart(token=token, service=service, allowance=1_000, audience=AUDIENCE)
        async with client_of(transport, token=part) as client:
            result = await client.call_tool("think", {"tokens": 300})
            assert told(result) == {"charged": {"calls": 1, "tokens": 300}}
            assert (token.allowance, token.expected_use) == (4_700, 100)
        token.close()


async def test_a_proxy_of_a_wrapped_client_holds(anyio_backend: Any) -> None:
    tools = Tools()
    proxy = create_proxy(wrap(Client(server(tools)), tools={"calls": 1}))
    async with task_budget(calls=3) as budget, client_of(proxy) as client:
        for _ in range(10):
            await client.call_tool_mcp("hello", {})
        assert (len(tools.ran), budget.spent("calls")) == (3, 3)


async def test_a_middleware_that_is_added_twice_holds_once(anyio_backend: Any) -> None:
    made = server()
    middleware = BudgetMiddleware()
    made.add_middleware(middleware)
    made.add_middleware(middleware)

    @made.tool
    async def twice() -> str:
        for _ in range(2):
            await made.call_tool("hello", {})
        return "done"

    async with client_of(made) as client:
        assert told(await client.call_tool("hello")) == {"charged": {"calls": 1}}
        assert told(await client.call_tool("twice")) == {"charged": {"calls": 3}}


async def test_what_a_mounted_server_refuses_is_told(anyio_backend: Any) -> None:
    outer: FastMCP[Any] = FastMCP("outer")
    outer.add_middleware(BudgetMiddleware())
    outer.mount(guarded(limits={"tokens": 4}), namespace="inner")
    async with client_of(outer) as client:
        result = await client.call_tool_mcp("inner_think", {"tokens": 5})
    assert told(result)["refused"]["type"] == "BudgetExceeded"


async def test_a_bug_after_a_refusal_is_no_refusal(anyio_backend: Any) -> None:
    made = guarded()

    @made.tool
    async def bug() -> str:
        try:
            async with reserve(calls=2**40):
                return "had enough"
        except BudgetExceeded:
            raise KeyError("a bug")  # noqa: B904

    @made.tool
    async def away() -> str:
        raise LedgerUnavailable("no answer")

    async with client_of(made, delegate={"calls": 2**41}, raises=True) as client:
        assert "refused" not in told(await client.call_tool_mcp("bug", {}))
        result = await client.call_tool_mcp("away", {})
        assert told(result)["refused"]["retry_after"] == 1.0


def test_options_that_cannot_be_are_refused_at_once(anyio_backend: Any) -> None:
    wrong: list[Any] = [{"tools": {"calls": 1.5}}, {"on_error": "no"}, {"max_wait": -1}]
    for options in wrong:
        with pytest.raises(ConfigurationError):
            BudgetMiddleware(**options)
