"""Tools of MCP servers hold, and so do the clients that call them; budgets travel in `_meta`."""

import json
import os
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    CreateMessageResult,
    ListToolsResult,
    SamplingMessage,
    TextContent,
)

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    connect,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError, LedgerUnavailable
from budgetware.propagation import META_KEY, inject_meta
from budgetware_integrations.asgi import BudgetMiddleware as HttpMiddleware
from budgetware_integrations.mcp import BUDGET_KEY, BudgetMiddleware, TokenPart, guard, wrap
from tests.integrations.mcp_tools import AUDIENCE, KEYS, Tools, define, guarded, server

NEEDS = "mcp"
PATIENCE_SECONDS = 20
ROOT = Path(__file__).parents[2]


on_asyncio = pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
"""For what is no matter of the event loop."""


@pytest.fixture
async def service() -> AsyncIterator[QuotaService]:
    async with connect(token_keys=KEYS) as opened:
        yield opened


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Any:
    """How client and server speak in one process: by a call, or by JSON-RPC over streams."""
    return request.param


def alice(_context: Any) -> str:
    return "alice"


@asynccontextmanager
async def client_of(target: Any, mode: Any = "auto", **options: Any) -> AsyncGenerator[Client]:
    client = Client(target, mode=mode)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with wrap(client, **options) if options else client:
            yield client


def text_of(result: CallToolResult) -> str:
    block = result.content[0]
    assert isinstance(block, TextContent)
    return block.text


def told(result: CallToolResult) -> Any:
    return (result.meta or {})[BUDGET_KEY]


def meta_of(value: Any, key: str = BUDGET_KEY) -> Any:
    return {key: value}


def spent(service: QuotaService, dim: str = "calls") -> Any:
    view = service.principal("alice")
    assert view is not None
    balance = view.snapshot().dims.get(dim)
    return 0 if balance is None else balance.spent


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_true():  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_a_result_is_as_without_but_for_what_it_cost(mode: Any) -> None:
    async with client_of(guarded(), mode) as client, client_of(server(), mode) as bare:
        for name in ("hello", "fail", "missing"):
            ours, theirs = await client.call_tool(name), await bare.call_tool(name)
            assert told(ours) == {"charged": {"calls": 1}}
            assert ours.meta is not None
            rest = {key: value for key, value in ours.meta.items() if key != BUDGET_KEY}
            assert rest == (theirs.meta or {})
            assert ours.model_copy(update={"meta": None}) == theirs.model_copy(
                update={"meta": None}
            )


async def test_a_refusal_can_be_read_by_models_and_programs(
    service: QuotaService, mode: Any
) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Rate(1, "hour")})
    made = guarded(tools, principal=alice, service=service)
    async with client_of(made, mode) as client:
        assert text_of(await client.call_tool("hello")) == "hello you"
        result = await client.call_tool("hello")
        assert (await client.list_tools()).tools
    assert result.is_error
    assert "principal 'alice' has 0 of 1 calls left" in text_of(result)
    refused = told(result)["refused"]
    assert refused["type"] == "QuotaExceeded"
    assert (refused["dim"], refused["remaining"], refused["limit"]) == ("calls", 0, 1)
    assert 3_500 < refused["retry_after"] <= 3_600
    assert told(result)["charged"] == {}
    assert tools.ran == ["you"]


async def test_of_a_hundred_at_once_exactly_as_many_as_are_paid_for_run(
    service: QuotaService, mode: Any
) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Capacity(10)})
    results: list[CallToolResult] = []
    made = guarded(tools, principal=alice, service=service)
    async with client_of(made, mode) as client, anyio.create_task_group() as group:

        async def call() -> None:
            results.append(await client.call_tool("hello"))

        for _ in range(100):
            group.start_soon(call)
    assert len(tools.ran) == 10
    assert [r.is_error for r in results].count(True) == 90


async def test_of_a_clients_hundred_exactly_as_many_as_it_can_pay_are_sent(mode: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), mode, tools={"calls": 1}) as client:
        async with task_budget(calls=10) as budget, anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(client.call_tool, "hello")
        assert len(tools.ran) == budget.spent("calls") == 10


async def test_a_throttled_call_waits_its_turn(service: QuotaService, mode: Any) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Resource("slots", Concurrency(2))})
    made = guarded(tools, principal=alice, service=service)
    async with client_of(made, mode) as client, anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(client.call_tool, "wait")
        await until(lambda: len(tools.ran) == 2)
        await anyio.wait_all_tasks_blocked()
        assert len(tools.ran) == 2
        tools.go_on.set()
    assert len(tools.ran) == 6


async def test_a_refusal_inside_a_tool_is_told_to_the_model(mode: Any) -> None:
    async with client_of(guarded(limits={"tokens": 10}), mode) as client:
        result = await client.call_tool("think", {"tokens": 11})
    assert result.is_error
    assert "10 of 10 tokens left, 11 requested" in text_of(result)
    assert told(result)["charged"] == {"calls": 1}
    assert told(result)["refused"]["remaining"] == 10


async def test_a_tool_may_say_it_in_its_own_words(mode: Any) -> None:
    async with client_of(guarded(limits={"tokens": 10}), mode) as client:
        result = await client.call_tool("says")
    assert text_of(result).endswith("my own words")
    assert told(result)["refused"]["dim"] == "tokens"


async def test_a_terminated_call_ends_no_other(mode: Any) -> None:
    tools = Tools()
    made = guarded(tools, limits={"tokens": 10}, policy="terminate")
    async with client_of(made, mode) as client, anyio.create_task_group() as group:
        calm: list[str] = []

        async def wait() -> None:
            calm.append(text_of(await client.call_tool("wait")))

        group.start_soon(wait)
        await until(lambda: tools.ran)
        result = await client.call_tool("stubborn")
        assert result.is_error
        assert told(result)["refused"]["type"] == "BudgetTerminated"
        assert "was terminated" in text_of(result)
        tools.go_on.set()
    assert tools.ran.count("turn") <= 4
    assert calm == ["waited"]
    assert tools.cancelled == []


async def test_a_deadline_ends_a_call(mode: Any) -> None:
    async with client_of(guarded(limits={"seconds": 0.01}), mode) as client:
        result = await client.call_tool("wait")
        assert told(result)["refused"]["dim"] == "millis"
        assert text_of(await client.call_tool("hello")) == "hello you"


async def test_a_call_that_is_cancelled_is_charged_on_both_sides(
    service: QuotaService, mode: Any
) -> None:
    tools = Tools()
    service.define_principal("alice", quotas={"calls": Capacity(10)})
    made = guarded(tools, principal=alice, service=service)
    async with client_of(made, mode, tools={"calls": 1}) as client:
        async with task_budget(calls=10) as budget:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "wait")
                await until(lambda: tools.ran)
                group.cancel_scope.cancel()
            assert budget.spent("calls") == 1
        await until(lambda: tools.cancelled)
        await until(lambda: spent(service) == 1)
        assert text_of(await client.call_tool("hello")) == "hello you"


async def test_a_failure_is_charged_unless_the_server_says_otherwise(mode: Any) -> None:
    for on_error, charged in (("charge", {"calls": 1}), ("release", {})):
        async with client_of(guarded(on_error=on_error), mode) as client:
            result = await client.call_tool("fail")
        assert told(result) == {"charged": charged}


async def test_a_tool_that_is_budgeted_holds_for_itself(mode: Any) -> None:
    async with client_of(guarded(), mode) as client:
        assert told(await client.call_tool("paid")) == {"charged": {"calls": 2}}


async def test_a_client_settles_to_what_the_server_charged(mode: Any) -> None:
    lent = {"tokens": 500, "usd": "0.05"}
    async with (
        client_of(guarded(), mode, delegate=lent) as client,
        task_budget(tokens=1_000, usd="1", calls=10) as budget,
    ):
        await client.call_tool("think", {"tokens": 120, "held": 300})
        assert budget.spent("tokens") == 120
        assert budget.spent("usd") == 0
        await client.call_tool("pay", {"usd": "0.02"})
        assert str(budget.spent("usd")) == "0.020000"
        assert budget.spent("calls") == 2
        assert all(balance.reserved == 0 for balance in budget.snapshot().dims.values())


async def test_a_server_spends_no_more_than_it_was_lent(mode: Any) -> None:
    made = guarded(limits={"tokens": 10_000})
    async with (
        client_of(made, mode, delegate={"tokens": 100}) as client,
        task_budget(tokens=1_000) as budget,
    ):
        result = await client.call_tool("think", {"tokens": 101})
    assert "budget 'caller' has 100 of 100 tokens left" in text_of(result)
    assert budget.spent("tokens") == 0


async def test_a_client_cannot_raise_what_the_server_allows(mode: Any) -> None:
    made = guarded(limits={"tokens": 50})
    async with client_of(made, mode, delegate={"tokens": 100_000}) as client:
        result = await client.call_tool("think", {"tokens": 60})
    assert "budget 'tool-call' has 50 of 50 tokens left" in text_of(result)


async def test_what_is_lent_is_charged_where_no_report_comes(mode: Any) -> None:
    async with client_of(server(), mode, delegate={"tokens": 100}) as client:
        async with task_budget(tokens=1_000) as budget:
            assert not (await client.call_tool("hello")).is_error
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed == 100


async def no_tools(_context: Any, _params: Any) -> ListToolsResult:
    return ListToolsResult(tools=[])


@on_asyncio
@pytest.mark.parametrize(
    "charged",
    [-1, 101, "7", 7.0, True, None, 10**30, {}, [7]],
    ids=repr,
)
async def test_a_report_that_cannot_be_is_none(charged: Any) -> None:
    async def answer(_context: Any, _params: Any) -> CallToolResult:
        report = {BUDGET_KEY: {"charged": {"tokens": charged, "nonsense": 5}}}
        return CallToolResult(content=[], _meta=report)

    liar = Server("liar", on_call_tool=answer, on_list_tools=no_tools)
    async with (
        client_of(liar, "legacy", delegate={"tokens": 100}) as client,
        task_budget(tokens=1_000) as budget,
    ):
        await client.call_tool("any")
    assert budget.spent("tokens") == 100


async def test_a_client_without_room_is_refused_and_sends_nothing(mode: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), mode, delegate={"tokens": 100}) as client:
        async with task_budget(tokens=50, calls=5) as budget:
            result = await client.call_tool("hello")
            assert result.is_error
            assert told(result)["refused"]["dim"] == "tokens"
        assert budget.spent("calls") == 0
    async with client_of(server(tools), mode, raises=True) as client, task_budget(calls=1):
        await client.call_tool("hello", {"name": "one"})
        with pytest.raises(BudgetExceeded):
            await client.call_tool("hello")
    assert tools.ran == ["one"]


async def test_a_clients_own_task_that_is_terminated_raises(mode: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), mode, tools={"calls": 1}) as client:

        async def loop() -> None:
            async with task_budget(calls=3, policy="terminate"):
                for _ in range(30):
                    await client.call_tool("hello")

        with pytest.raises(BudgetTerminated):
            await loop()
        assert not (await client.call_tool("hello", {"name": "after"})).is_error
    assert tools.ran == ["you"] * 3 + ["after"]


async def test_a_request_that_cannot_be_costs_nothing(service: QuotaService, mode: Any) -> None:
    async def refuse(_context: Any, _params: Any) -> CallToolResult:
        raise MCPError(INVALID_PARAMS, "no such thing")

    strict = guard(Server("strict", on_call_tool=refuse), service=service, principal=alice)
    async with client_of(strict, mode, delegate={"tokens": 5}) as client:
        async with task_budget(calls=5, tokens=10) as budget:
            with pytest.raises(MCPError):
                await client.call_tool("hello")
        assert (budget.spent("calls"), budget.spent("tokens"), spent(service)) == (0, 0, 0)


HOSTILE: list[Any] = [
    "text", 7, [], {"limits": 7}, {"limits": [1]}, {"limits": {"tokens": -1}},
    {"limits": {"tokens": 0}}, {"limits": {"tokens": 10**400}}, {"limits": {"tokens": 2**53}},
    {"limits": {"tokens": "5"}}, {"limits": {"tokens": 5.0}}, {"limits": {"tokens": True}},
    {"limits": {"tokens": None}}, {"limits": {"tokens": {"limit": 5}}}, {"limits": {"usd": 1e300}},
    {"limits": {"usd": "NaN"}}, {"limits": {"usd": "1e9"}}, {"limits": {"usd": "-1"}},
    {"limits": {"gremlins": 5}}, {"limits": {"": 5}}, {"limits": {"policy": 5}},
    {"limits": {"carve": 5}}, {"limits": {"seconds": 5}}, {"limits": {"tokens\x00": 5}},
    {"limits": {f"d{n}": 5 for n in range(1_000)}},
]  # fmt: skip


@on_asyncio
@pytest.mark.parametrize("sent", HOSTILE, ids=lambda sent: repr(sent)[:40])
async def test_limits_that_cannot_be_are_refused_softly(sent: Any) -> None:
    tools = Tools()
    async with client_of(guarded(tools, limits={"tokens": 10}), "legacy") as client:
        result = await client.call_tool("hello", meta=meta_of(sent))
        assert result.is_error
        assert told(result)["refused"]["type"] == "InvalidAmount"
        assert tools.ran == []
        assert len(json.dumps(result.meta)) < 1_000
        assert text_of(await client.call_tool("hello")) == "hello you"


@on_asyncio
async def test_unknown_dimensions_of_clients_do_not_become_known() -> None:
    async with client_of(guarded()) as client:
        for n in range(300):
            await client.call_tool("hello", meta=meta_of({"limits": {f"dim{n}": 1}}))
    async with task_budget(dim_of_ours=5) as budget:
        assert budget.remaining("dim_of_ours") == 5


@on_asyncio
@pytest.mark.parametrize("name", ["a/b", "\x1b[31m", "x" * 10_000, "", "ä"])
async def test_names_of_tools_may_be_anything(name: str) -> None:
    async with client_of(guarded()) as client:
        assert (await client.call_tool(name)).is_error
        assert not (await client.call_tool("hello")).is_error


@on_asyncio
async def test_a_name_of_a_principal_that_cannot_be_is_refused_softly() -> None:
    async with client_of(guarded(principal=lambda _context: "a b\n")) as client:
        result = await client.call_tool("hello")
    assert told(result)["refused"]["type"] == "ConfigurationError"


async def test_a_call_is_no_part_of_its_callers_task_in_one_process(mode: Any) -> None:
    async with client_of(guarded(), mode) as client, task_budget(calls=5, tokens=5) as budget:
        await client.call_tool("think", {"tokens": 50})
        assert budget.spent("tokens") == budget.spent("calls") == 0


@pytest.mark.filterwarnings("ignore:.*sampling capability is deprecated")
async def test_what_a_server_samples_is_paid_by_the_task_that_is_named() -> None:
    made = server()

    @made.tool()
    async def ask(context: Context[Any]) -> str:
        said = SamplingMessage(role="user", content=TextContent(type="text", text="Who?"))
        session: Any = context.session
        await session.create_message([said], max_tokens=10)
        return "asked"

    async def answer(context: Any, params: Any) -> CreateMessageResult:
        async with reserve(tokens=7):
            content = TextContent(type="text", text="I")
            return CreateMessageResult(role="assistant", content=content, model="m")

    async with task_budget(tokens=50) as budget:
        given = budget.wrap(answer)
        async with Client(guard(made), mode="legacy", sampling_callback=given) as client:
            assert told(await client.call_tool("ask")) == {"charged": {"calls": 1}}
        assert budget.spent("tokens") == 7


def test_wrapping_twice_is_once_and_keeps_types() -> None:
    made = server()
    client = Client(made)
    assert wrap(wrap(client)) is client
    assert isinstance(client, Client)
    assert guard(guard(made)) is made
    assert sum(isinstance(known, BudgetMiddleware) for known in made.middleware) == 1


@pytest.mark.parametrize("wrong", [wrap, guard])
def test_what_is_none_of_the_sdks_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong("neither")


async def test_a_session_of_a_framework_is_wrapped_and_charged_once(mode: Any) -> None:
    async with client_of(guarded(), mode, delegate={"tokens": 5}) as client:
        session = wrap(client.session, delegate={"tokens": 7})
        assert isinstance(session, ClientSession)
        async with task_budget(calls=10, tokens=100) as budget:
            await client.call_tool("hello")
            assert budget.spent("calls") == 1
            await session.call_tool("hello")
            assert budget.spent("calls") == 2


def test_the_key_is_one_that_mcp_allows() -> None:
    label, name = "[a-z](?:[a-z0-9-]*[a-z0-9])?", "[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
    assert re.fullmatch(rf"{label}(?:\.{label})+/{name}", BUDGET_KEY)
    assert BUDGET_KEY.split(".")[1].split("/")[0] not in ("mcp", "modelcontextprotocol")


def stdio(ledger: Path) -> Any:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations'}"}
    path = str(ROOT / "tests/integrations/mcp_tools.py")
    server = StdioServerParameters(command=sys.executable, args=[path, str(ledger)], env=env)
    return stdio_client(server)


@on_asyncio
async def test_a_token_goes_to_another_process_and_comes_back(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    async with connect(ledger=f"sqlite:///{ledger}", token_keys=KEYS) as service:
        define(service)
        token = QuotaToken("shared", 100, allowance=5_000, service=service)
        part = TokenPart(token=token, service=service, allowance=1_000, audience=AUDIENCE)
        lent = {"tokens": 900}
        async with (
            client_of(stdio(ledger), "auto", delegate=lent, token=part) as client,
            task_budget(tokens=10_000) as budget,
        ):
            result = await client.call_tool("think", {"tokens": 300})
            assert told(result) == {"charged": {"calls": 1, "tokens": 300}}
            assert (token.allowance, token.expected_use) == (4_700, 100)
            assert budget.spent("tokens") == 300
            refused = await client.call_tool("think", {"tokens": 1_200})
            assert told(refused)["refused"]["budget"] == "caller"
            assert budget.spent("tokens") == 300
            assert token.allowance == 4_700
        token.close()


@asynccontextmanager
async def token_of(
    service: QuotaService, **options: Any
) -> AsyncGenerator[tuple[QuotaToken, TokenPart]]:
    define(service)
    token = QuotaToken("shared", 100, allowance=5_000, service=service)
    given: dict[str, Any] = {"allowance": 1_000, "audience": AUDIENCE} | options
    yield token, TokenPart(token=token, service=service, **given)
    token.close()


async def test_the_tool_draws_on_the_token_and_no_further(service: QuotaService, mode: Any) -> None:
    made = guarded(service=service, audience=AUDIENCE)
    async with (
        token_of(service) as (token, part),
        client_of(made, mode, token=part) as client,
    ):
        result = await client.call_tool("think", {"tokens": 1_001})
        assert "allowance of a token of 'shared'" in text_of(result)
        assert token.allowance == 5_000
        await client.call_tool("think", {"tokens": 1_000})
        assert (token.allowance, token.expected_use) == (4_000, 100)


async def test_parallel_calls_take_parts_of_one_token(service: QuotaService, mode: Any) -> None:
    made = guarded(service=service, audience=AUDIENCE)
    async with (
        token_of(service, allowance=100) as (token, part),
        client_of(made, mode, token=part) as client,
    ):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(client.call_tool, "think", {"tokens": 10})
        assert (token.allowance, token.expected_use) == (4_800, 100)


async def test_a_token_that_a_server_does_not_take_is_taken_back(
    service: QuotaService, mode: Any
) -> None:
    async with (
        token_of(service) as (token, part),
        client_of(server(), mode, token=part) as client,
        client_of(guarded(audience="other"), mode, token=part) as refusing,
    ):
        assert not (await client.call_tool("hello")).is_error
        assert (token.allowance, token.expected_use) == (5_000, 100)
        assert (await refusing.call_tool("hello")).is_error
        assert (token.allowance, token.expected_use) == (5_000, 100)


async def test_of_a_call_that_is_cancelled_the_allowance_counts_as_spent_and_the_weight_returns(
    service: QuotaService, mode: Any
) -> None:
    tools = Tools()
    made = guarded(tools, service=service, audience=AUDIENCE)
    async with (
        token_of(service) as (token, part),
        client_of(made, mode, token=part) as client,
    ):
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "wait")
            await until(lambda: tools.ran)
            group.cancel_scope.cancel()
        assert (token.allowance, token.expected_use) == (4_000, 100)
        assert not (await client.call_tool("hello")).is_error


async def test_a_token_is_taken_once(service: QuotaService) -> None:
    tools = Tools()
    async with (
        token_of(service) as (token, _part),
        client_of(guarded(tools, service=service, audience=AUDIENCE)) as client,
    ):
        meta: Any = {}
        split = token.split(1, allowance=10)
        inject_meta(meta, split, expires_in="1m", audience=AUDIENCE)
        first = await client.call_tool("hello", meta=meta)
        again = await client.call_tool("hello", meta=meta)
    assert not first.is_error
    assert told(again)["refused"]["type"] == "TokenConsumed"
    assert tools.ran == ["you"]


@on_asyncio
@pytest.mark.parametrize(
    "text",
    [
        "", "bwt1", 7, ["bwt1.e30.x"], {"token": 1}, "x" * 100_000,
        f"bwt1.{'e' * 40}.{'A' * 43}",
    ],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
async def test_a_token_that_is_none_is_refused_softly(service: QuotaService, text: Any) -> None:
    tools = Tools()
    made = guarded(tools, service=service, audience=AUDIENCE)
    async with client_of(made, "legacy") as client:
        result = await client.call_tool("hello", meta=meta_of(text, META_KEY))
        assert told(result)["refused"]["type"] == "TokenInvalid"
        assert tools.ran == []
        assert not (await client.call_tool("hello")).is_error


@on_asyncio
async def test_a_token_for_somebody_else_or_of_another_service_is_refused_softly(
    service: QuotaService,
) -> None:
    made = guarded(service=service, audience=AUDIENCE)
    async with client_of(made) as client, token_of(service, audience="other") as (_token, part):
        other: Any = {}
        part.put(other)
        result = await client.call_tool("hello", meta=other)
        assert told(result)["refused"]["type"] == "TokenInvalid"
    async with (
        connect(token_keys={"k2": b"f" * 32}) as stranger,
        client_of(made) as client,
        token_of(stranger) as (_token, part),
    ):
        forged: Any = {}
        part.put(forged)
        result = await client.call_tool("hello", meta=forged)
        assert told(result)["refused"]["type"] == "TokenInvalid"


async def test_tokens_are_taken_into_the_service_that_is_current(
    service: QuotaService, mode: Any
) -> None:
    tools = Tools()
    made = guarded(tools)
    async with (
        token_of(service, audience=None) as (token, part),
        client_of(made, mode, token=part) as client,
        client_of(made, mode) as bare,
    ):
        await client.call_tool("think", {"tokens": 1_000})
        assert token.allowance == 4_000
        assert (await client.call_tool("think", {"tokens": 1_001})).is_error
        tools.ran.clear()
        for text in ("garbage", f"bwt1.{'e' * 40}.{'A' * 43}"):
            assert (await bare.call_tool("hello", meta=meta_of(text, META_KEY))).is_error
    assert tools.ran == []


async def test_a_token_at_a_server_without_keys_is_refused_softly(mode: Any) -> None:
    tools = Tools()
    async with connect(), client_of(guarded(tools), mode) as client:
        text = f"bwt1.{'e' * 40}.{'A' * 43}"
        result = await client.call_tool("hello", meta=meta_of(text, META_KEY))
    assert told(result)["refused"]["type"] == "ConfigurationError"
    assert tools.ran == []


@pytest.mark.parametrize("returned", ["garbage", 5, None], ids=repr)
async def test_a_token_that_was_never_taken_survives_what_comes_back(
    service: QuotaService, returned: Any
) -> None:
    made = server()

    async def answer(context: Any, call_next: Any) -> Any:
        if context.method != "tools/call":
            return await call_next(context)
        return CallToolResult(
            content=[], structured_content={"result": ""}, _meta=meta_of(returned, META_KEY)
        )

    middleware: Any = answer
    made.middleware.append(middleware)
    async with (
        token_of(service) as (token, part),
        client_of(made, token=part) as client,
    ):
        await client.call_tool("hello")
        assert (token.allowance, token.expected_use) == (5_000, 100)


async def test_more_calls_at_once_than_a_token_has_weight_for_are_refused_softly(
    service: QuotaService, mode: Any
) -> None:
    made = guarded(service=service, audience=AUDIENCE)
    async with (
        token_of(service, expected_use=60) as (token, part),
        client_of(made, mode, token=part) as client,
    ):
        results: list[CallToolResult] = []

        async def call() -> None:
            results.append(await client.call_tool("hello"))

        async with anyio.create_task_group() as group, task_budget(calls=5) as budget:
            group.start_soon(budget.wrap(call))
            await budget.wrap(call)()
        refused = [result for result in results if result.is_error]
        assert [told(result)["refused"]["type"] for result in refused] == ["NoPart"]
        assert (token.allowance, token.expected_use) == (5_000, 100)


async def test_the_session_of_a_wrapped_client_holds_and_calls_are_charged_once(mode: Any) -> None:
    tools = Tools()
    async with client_of(server(tools), mode, raises=False) as client, task_budget(calls=3) as task:
        for _ in range(5):
            await client.session.call_tool("hello", {})
        assert (tools.ran, task.spent("calls")) == (["you"] * 3, 3)
    async with client_of(server(), mode, raises=False) as client, task_budget(calls=3) as task:
        await client.call_tool("hello")
        assert task.spent("calls") == 1


async def test_a_ledger_that_does_not_answer_a_tool_is_told_with_a_time(mode: Any) -> None:
    made = guarded()

    @made.tool()
    async def away() -> str:
        raise LedgerUnavailable("no answer")

    @made.tool()
    async def bug() -> str:
        try:
            async with reserve(calls=2**40):
                return "had enough"
        except BudgetExceeded:
            raise KeyError("a bug")  # noqa: B904

    async with client_of(made, mode) as client:
        result = await client.call_tool("away")
        assert told(result)["refused"]["type"] == "LedgerUnavailable"
        assert told(result)["refused"]["retry_after"] == 1.0
        assert "refused" not in told(await client.call_tool("bug"))


@pytest.mark.parametrize(
    "options",
    [
        {"tools": {"calls": 1.5}}, {"tools": 5}, {"max_wait": -1}, {"on_error": "no"},
        {"on_error": len}, {"audience": 5}, {"audience": ""},
        {"limits": {"tokens": -1}}, {"limits": 5},
    ],
    ids=repr,
)  # fmt: skip
def test_options_that_cannot_be_are_refused_at_once(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        guard(server(), **options)


@pytest.mark.parametrize(
    "options",
    [{"tools": 5}, {"delegate": {"calls": 1.5}}, {"max_wait": -1}, {"policy": "x"}],
    ids=repr,
)
def test_options_of_clients_that_cannot_be_are_refused_at_once(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        wrap(Client(server()), **options)


async def test_a_middleware_that_is_added_twice_holds_once(mode: Any) -> None:
    made = server()
    middleware = BudgetMiddleware()
    made.middleware.extend([middleware, middleware])
    async with client_of(made, mode) as client:
        assert told(await client.call_tool("hello")) == {"charged": {"calls": 1}}


@on_asyncio
async def test_behind_http_the_principal_and_the_limits_of_the_request_stay(
    service: QuotaService,
) -> None:
    service.define_principal("alice", quotas={"tokens": Capacity(1_000)})
    app = guarded(limits={"tokens": 50}).streamable_http_app()
    app.add_middleware(
        HttpMiddleware, principal="x-user", amounts=None, limits={"tokens": 5}, service=service
    )
    with anyio.fail_after(PATIENCE_SECONDS):
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app),
                base_url="http://127.0.0.1:8000",
                headers={"x-user": "alice"},
            ) as http,
            Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)) as client,
        ):
            assert not (await client.call_tool("think", {"tokens": 2})).is_error
            refused = await client.call_tool("think", {"tokens": 40})
    assert "budget 'request' has 5 of 5 tokens left" in text_of(refused)
    assert spent(service, "tokens") == 2
