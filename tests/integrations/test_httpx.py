"""Transports of httpx and httpx2: what each request holds, and what is settled."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware_integrations.httpx import async_transport, transport, wrap
from tests.integrations.web import GZIPPED, Web, serve_web

NEEDS = "httpx"
MODULES = [name for name in ("httpx", "httpx2") if find_spec(name)]
MIB = 1 << 20

pytestmark = [
    pytest.mark.anyio,
    # Of httpx itself, on trio: it leaves generators it has read unclosed.
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODULES)
def http(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


@pytest.fixture
def web() -> Iterator[Web]:
    with serve_web() as running:
        yield running


@asynccontextmanager
async def client_of(http: Any, web: Web, **options: Any) -> AsyncGenerator[Any]:
    with anyio.fail_after(20):
        async with http.AsyncClient(base_url=web.url) as client:
            yield wrap(client, **options)


@pytest.fixture
def client(http: Any, web: Web) -> Generator[Any]:
    with http.Client(base_url=web.url) as made:
        yield wrap(made)


async def test_a_request_is_charged_one_call_and_the_bytes_of_both_bodies(
    http: Any, web: Web
) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        answer = await client.post("/echo", content=b"12345")
    assert answer.content == b"12345"
    assert type(answer) is http.Response
    assert (budget.spent("calls"), budget.spent("bytes")) == (1, 10)
    assert budget.snapshot()["bytes"].assumed == 0


def test_a_sync_request_is_charged_the_same(client: Any) -> None:
    with task_budget(bytes=2 * MIB) as budget:
        assert client.post("/echo", content=b"12345").content == b"12345"
    assert (budget.spent("calls"), budget.spent("bytes")) == (1, 10)


def test_the_answer_is_held_by_the_default_and_the_request_by_its_length(client: Any) -> None:
    with task_budget(bytes=100), pytest.raises(BudgetExceeded) as refused:
        client.post("/echo", content=b"12345")
    assert refused.value.requested == MIB + 5


def test_a_longer_answer_than_was_held_is_charged_in_full(http: Any, web: Web) -> None:
    with http.Client(base_url=web.url) as bare, task_budget(bytes=100) as budget:
        wrap(bare, max_response_bytes=10).get("/bytes/500")
    assert budget.spent("bytes") == 500


@pytest.mark.parametrize(
    ("path", "count"), [("/chunked/3000", 3_000), ("/gzip", len(GZIPPED)), ("/bytes/0", 0)]
)
async def test_bytes_are_counted_as_they_come_over_the_wire(
    http: Any, web: Web, path: str, count: int
) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert budget.spent("bytes") == count


def test_a_body_without_a_length_is_counted_as_it_is_sent(client: Any) -> None:
    with task_budget(bytes=2 * MIB) as budget:
        answer = client.post("/echo", content=iter([b"123", b"45"]))
    assert answer.content == b"12345"
    assert budget.spent("bytes") == 10


async def test_an_async_body_without_a_length_is_counted_as_it_is_sent(http: Any, web: Web) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"123"
        yield b"45"

    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        answer = await client.post("/echo", content=parts())
    assert answer.content == b"12345"
    assert budget.spent("bytes") == 10


def test_a_head_has_no_body_whatever_length_it_tells_of(client: Any) -> None:
    with task_budget(bytes=2 * MIB) as budget:
        assert client.head("/bytes/500").headers["content-length"] == "500"
        with client.stream("HEAD", "/bytes/500"):
            pass
    balance = budget.snapshot()["bytes"]
    assert (balance.spent, balance.assumed, budget.spent("calls")) == (0, 0, 2)


async def test_a_redirect_is_a_call_of_its_own(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(bytes=9 * MIB) as budget:
        answer = await client.get("/redirect", follow_redirects=True)
    assert answer.content == b"xxx"
    assert (budget.spent("calls"), budget.spent("bytes")) == (2, 10)


async def test_a_stream_is_settled_when_it_has_been_read(http: Any, web: Web) -> None:
    async with (
        client_of(http, web) as client,
        task_budget(bytes=2 * MIB) as budget,
        client.stream("GET", "/chunked/3000") as answer,
    ):
        assert budget.snapshot()["bytes"].reserved == MIB
        assert len([part async for part in answer.aiter_bytes(1_000)]) == 3
        assert budget.snapshot()["bytes"].reserved == 0
    balance = budget.snapshot()["bytes"]
    assert (balance.spent, balance.assumed) == (3_000, 0)


async def test_a_stream_that_is_left_early_is_charged_what_was_read(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        async with client.stream("GET", "/pause") as answer:
            async for _ in answer.aiter_raw():
                break
        await to_thread.run_sync(web.wait_for, web.hung_up)
        balance = budget.snapshot()["bytes"]
    assert balance.spent == balance.assumed == 2
    assert balance.reserved == 0


def test_a_sync_stream_that_is_left_early_is_charged_what_was_read(client: Any, web: Web) -> None:
    with task_budget(bytes=2 * MIB) as budget:
        with client.stream("GET", "/pause") as answer:
            assert next(answer.iter_raw()) == b"ha"
        web.wait_for(web.hung_up)
        balance = budget.snapshot()["bytes"]
    assert balance.spent == balance.assumed == 2


async def test_a_stream_that_is_cancelled_is_charged_what_was_read(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:

        async def read() -> None:
            async with client.stream("GET", "/pause") as answer:
                async for _ in answer.aiter_raw():
                    began.set()

        began = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await began.wait()
            group.cancel_scope.cancel()
        balance = budget.snapshot()["bytes"]
    assert balance.spent == balance.assumed == 2
    assert balance.reserved == 0


async def test_an_answer_that_breaks_is_charged_what_came(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        with pytest.raises(http.RemoteProtocolError):
            await client.get("/cut")
    balance = budget.snapshot()["bytes"]
    assert balance.spent == balance.assumed == 2
    assert budget.spent("calls") == 1


async def test_a_request_that_is_cancelled_is_a_call_that_was_made(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(bytes=2 * MIB) as budget:
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, "/hold")
            await to_thread.run_sync(web.wait_for, web.asked)
            group.cancel_scope.cancel()
        await to_thread.run_sync(web.wait_for, web.hung_up)
        snapshot = budget.snapshot()
    assert (snapshot["calls"].spent, snapshot["bytes"].spent) == (1, 0)
    assert snapshot["bytes"].reserved == 0


async def test_a_timeout_is_a_call_that_was_made(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(calls=9) as budget:
        with pytest.raises(http.ReadTimeout):
            await client.get("/hold", timeout=http.Timeout(None, read=0.01))
    assert budget.spent("calls") == 1


async def test_a_connection_that_was_never_made_charges_nothing(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, task_budget(calls=9) as budget:
        with pytest.raises(http.ConnectError):
            await client.get("http://127.0.0.1:9/")
    assert budget.spent("calls") == 0


async def test_of_a_hundred_at_once_as_many_are_sent_as_the_budget_allows(
    http: Any, web: Web
) -> None:
    refused = 0

    async def ask(client: Any) -> None:
        nonlocal refused
        try:
            await client.get("/bytes/1")
        except BudgetExceeded:
            refused += 1

    async with (
        client_of(http, web) as client,
        task_budget(calls=10) as budget,
        anyio.create_task_group() as group,
    ):
        for _ in range(100):
            group.start_soon(ask, client)
    assert (len(web.asked), budget.spent("calls"), refused) == (10, 10, 90)


async def test_a_task_is_ended_where_its_requests_ask_for_too_much(http: Any, web: Web) -> None:
    async with client_of(http, web) as client:
        with pytest.raises(BudgetTerminated):  # noqa: PT012 - that is how a task ends
            async with task_budget(calls=3, policy="terminate"):
                while True:
                    await client.get("/bytes/1")
    assert len(web.asked) == 3


async def test_a_throttled_request_waits_its_turn(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, connect() as service:
        service.define(Resource("site", Concurrency(2), dim="calls"))
        async with (
            QuotaToken("site", expected_use=2),
            service.task_budget(calls=9) as budget,
            anyio.create_task_group() as group,
        ):
            for _ in range(5):
                group.start_soon(client.get, "/hold")
            await to_thread.run_sync(web.wait_for, web.asked, 2)
            assert len(web.asked) == 2
            web.released.set()
        assert budget.spent("calls") == 5


async def test_a_server_that_is_busy_pauses_what_the_request_draws_on(http: Any, web: Web) -> None:
    async with client_of(http, web) as client, connect() as service:
        service.define(Resource("site", Rate(1_000, "second"), enforcement="reject", dim="calls"))
        async with QuotaToken("site", expected_use=2), service.task_budget(calls=9) as budget:
            assert (await client.get("/busy")).status_code == 429
            with pytest.raises(QuotaExceeded, match="paused") as paused:
                await client.get("/busy")
    assert 30 < (paused.value.retry_after or 0) <= 34
    assert budget.spent("calls") == 1


def test_a_callable_says_what_each_request_holds(http: Any, web: Web) -> None:
    def amounts(request: Any) -> dict[str, Any] | None:
        if request.method == "HEAD":
            return None
        return {"calls": 1, "custom0": 5, "bytes": 100}

    with http.Client(base_url=web.url) as bare, task_budget(bytes=100) as budget:
        client = wrap(bare, amounts=amounts)
        client.head("/bytes/500")
        client.get("/bytes/40")
    spent = [budget.spent(dim) for dim in ("calls", "custom0", "bytes")]
    assert spent == [1, 5, 40]


def test_a_refusal_may_be_an_answer_that_is_not_worth_a_retry(http: Any, web: Web) -> None:
    with http.Client(base_url=web.url) as bare, task_budget(calls=1):
        client = wrap(bare, refusal="response")
        assert client.get("/bytes/1").status_code == 200
        refused = client.get("/bytes/1")
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert "calls left" in refused.json()["error"]["message"]
    assert len(web.asked) == 1


async def test_an_answer_for_a_refusal_says_when_it_is_worth_a_retry(http: Any, web: Web) -> None:
    async with client_of(http, web, refusal="response") as client, connect() as service:
        service.define(Resource("site", Rate(1, "hour"), enforcement="reject", dim="calls"))
        async with QuotaToken("site", expected_use=1), service.task_budget(calls=9):
            await client.get("/bytes/1")
            refused = await client.get("/bytes/1")
    assert refused.status_code == 429
    assert 3_500 < int(refused.headers["retry-after"]) <= 3_600


async def test_an_answer_for_a_refusal_does_not_keep_a_task_from_its_end(
    http: Any, web: Web
) -> None:
    async with client_of(http, web, refusal="response") as client:
        with pytest.raises(BudgetTerminated):  # noqa: PT012 - that is how a task ends
            async with task_budget(calls=2, policy="terminate"):
                while True:
                    await client.get("/bytes/1")
    assert len(web.asked) == 2


def test_a_client_is_wrapped_once(client: Any) -> None:
    with task_budget(calls=9) as budget:
        wrap(wrap(client)).get("/bytes/1")
    assert budget.spent("calls") == 1


def test_what_goes_through_a_proxy_is_held_too(http: Any, web: Web) -> None:
    with http.Client(proxy=web.url) as bare, task_budget(calls=9) as budget:
        wrap(bare).get("http://elsewhere/bytes/1")
    assert budget.spent("calls") == 1


def test_a_transport_over_another_one_is_of_the_same_module(http: Any) -> None:
    inner = http.MockTransport(lambda request: http.Response(200, content=request.content * 2))
    with http.Client(transport=transport(inner)) as client, task_budget(bytes=9 * MIB) as budget:
        assert client.post("http://site/", content=b"ab").content == b"abab"
    assert budget.spent("bytes") == 6


async def test_a_transport_of_its_own_sends_for_real(http: Any, web: Web) -> None:
    over = async_transport(module=http.__name__, amounts={"calls": 2})
    async with http.AsyncClient(transport=over) as client, task_budget(calls=9) as budget:
        answer = await client.get(f"{web.url}/bytes/3")
    assert answer.content == b"xxx"
    assert answer.extensions["http_version"] == b"HTTP/1.1"
    assert budget.spent("calls") == 2


def test_a_sync_transport_of_its_own_sends_for_real(http: Any, web: Web) -> None:
    over = transport(module=http.__name__)
    with http.Client(transport=over) as client, task_budget(calls=9) as budget:
        assert client.get(f"{web.url}/bytes/3").content == b"xxx"
    assert budget.spent("calls") == 1


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(TypeError, match="give a client of httpx"):
        wrap(object())


@pytest.mark.parametrize(
    "wrong", [{"max_response_bytes": -1}, {"max_response_bytes": 1.5}, {"refusal": "maybe"}]
)
def test_options_that_cannot_be_are_refused_at_once(http: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        transport(module=http.__name__, **wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"amounts": 5},
        {"amounts": None},
        {"amounts": {5: 1}},
        {"amounts": {"calls": -1}},
        {"name": "a b"},
        {"policy": "harsh"},
        {"refusal": "maybe"},
        {"max_response_bytes": -1},
        {"most": 5},
        {"module": "x"},
        {"inner": 5},
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, InvalidAmount)):
        transport(**options)


def test_a_transport_of_the_other_kind_is_refused(http: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a sync transport"):
        transport(http.AsyncHTTPTransport())
    with pytest.raises(ConfigurationError, match="give an async transport"):
        async_transport(http.HTTPTransport())
    other: Any = "httpx" if http.__name__ == "httpx2" else "httpx2"
    with pytest.raises(ConfigurationError, match="module="):
        transport(http.HTTPTransport(), module=other)


def test_an_upload_without_a_length_is_held_as_a_mebibyte(client: Any) -> None:
    with task_budget(bytes=MIB + 100), pytest.raises(BudgetExceeded) as refused:
        client.post("/echo", content=iter([b"123"]))
    assert refused.value.requested == 2 * MIB
