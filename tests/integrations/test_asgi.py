"""Requests to ASGI apps: each holds before it runs, and a refusal is 429."""

import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from anyio import to_thread
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    connect,
    current_budget,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError
from budgetware_integrations.asgi import BudgetMiddleware, request_reservation

NEEDS = "fastapi"
PATIENCE_SECONDS = 20
ALICE = {"x-user": "alice"}

# Of httpx on trio: it leaves generators unclosed that were not read to their ends.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator:ResourceWarning",
    "ignore:.*Async generator:pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture
async def service() -> AsyncIterator[QuotaService]:
    async with connect() as opened:
        yield opened


def budgeted(service: QuotaService, app: Any, **options: Any) -> Any:
    given = {"service": service, "principal": "x-user"} | options
    app.add_middleware(BudgetMiddleware, **given)
    return app


def one(handler: Any, **options: Any) -> Starlette:
    return Starlette(routes=[Route("/", handler, methods=["GET", "POST"])], **options)


async def hello(_request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


@asynccontextmanager
async def client_of(app: Any, **options: Any) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, **options)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client


@asynccontextmanager
async def served(app: Any) -> AsyncGenerator[str]:
    """The app under a real server, on a thread of its own: with a loop that nobody else has."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="auto", ws="websockets-sansio")
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, lambda: server.run(sockets=[listener]))
        try:
            await until(lambda: server.started)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True


async def until(is_true: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS, shield=True):
        while not is_true():  # noqa: ASYNC110
            await anyio.sleep(0.002)


def spent(service: QuotaService, name: str = "alice", dim: str = "calls") -> Any:
    view = service.principal(name)
    assert view is not None
    return view.snapshot()[dim].spent


def quota(service: QuotaService, name: str = "alice", **quotas: Any) -> None:
    service.define_principal(name, quotas={dim: Capacity(n) for dim, n in quotas.items()})


async def test_a_request_is_answered_as_without(service: QuotaService) -> None:
    app = budgeted(service, one(hello))
    async with client_of(app) as client, client_of(one(hello)) as bare:
        ours, theirs = await client.get("/", headers=ALICE), await bare.get("/")
    assert ours.status_code == theirs.status_code == 200
    assert ours.headers == theirs.headers
    assert ours.content == theirs.content
    assert spent(service) == 1


async def test_errors_of_the_app_are_as_without_and_charged(service: QuotaService) -> None:
    async def broken(_request: Request) -> JSONResponse:
        raise ZeroDivisionError

    quota(service, calls=10)
    async with client_of(budgeted(service, one(broken)), raise_app_exceptions=False) as client:
        assert (await client.get("/", headers=ALICE)).status_code == 500
    assert spent(service) == 1
    free = budgeted(service, one(broken), on_error="release")
    async with client_of(free) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/", headers=ALICE)
    assert spent(service) == 1


async def test_of_a_hundred_at_once_exactly_as_many_as_are_paid_for_run(
    service: QuotaService,
) -> None:
    seen: list[int] = []
    ran = 0

    async def counted(_request: Request) -> JSONResponse:
        nonlocal ran
        ran += 1
        await anyio.lowlevel.checkpoint()
        return JSONResponse({})

    service.define_principal("alice", quotas={"calls": Rate(10, "hour")})
    async with client_of(budgeted(service, one(counted))) as client:

        async def ask() -> None:
            answer = await client.get("/", headers=ALICE)
            seen.append(answer.status_code)
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 360
                assert answer.json()["error"]["type"] == "QuotaExceeded"

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(ask)
    assert ran == seen.count(200) == 10
    assert seen.count(429) == 90


async def test_a_refusal_inside_the_handler_is_429(service: QuotaService) -> None:
    async def greedy(_request: Request) -> JSONResponse:
        async with reserve(tokens=1_000):
            raise AssertionError

    app = budgeted(service, one(greedy), limits={"tokens": 10})
    async with client_of(app) as client:
        answer = await client.get("/", headers=ALICE)
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert answer.json()["error"]["type"] == "BudgetExceeded"
    assert spent(service) == 1


async def test_handlers_of_the_app_see_a_refusal_first(service: QuotaService) -> None:
    async def own(_request: Request, _error: Exception) -> PlainTextResponse:
        return PlainTextResponse("later", 503)

    async def greedy(_request: Request) -> JSONResponse:
        async with reserve(tokens=1_000):
            raise AssertionError

    app = one(greedy, exception_handlers={BudgetExceeded: own})
    async with client_of(budgeted(service, app, limits={"tokens": 10})) as client:
        assert (await client.get("/")).text == "later"


async def test_a_terminated_request_is_429_and_ends_no_other(service: QuotaService) -> None:
    began, go_on = anyio.Event(), anyio.Event()

    async def stubborn(request: Request) -> JSONResponse:
        if request.method == "GET":
            began.set()
            await go_on.wait()
            return JSONResponse({})
        turns = 0
        while True:
            turns += 1
            assert turns < 50
            try:
                async with reserve(tokens=6):
                    pass
            except Exception:
                continue

    app = budgeted(service, one(stubborn), limits={"tokens": 10}, policy="terminate")
    async with client_of(app) as client, anyio.create_task_group() as group:
        calm: list[int] = []

        async def ask_calmly() -> None:
            calm.append((await client.get("/")).status_code)

        group.start_soon(ask_calmly)
        await began.wait()
        answer = await client.post("/")
        go_on.set()
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "BudgetTerminated"
    assert calm == [200]


async def test_middlewares_that_run_the_handler_in_a_task_of_its_own_change_nothing(
    service: QuotaService,
) -> None:
    turns = 0

    async def stubborn(_request: Request) -> JSONResponse:
        nonlocal turns
        for turns in range(1, 50):  # noqa: B007
            try:
                async with reserve(tokens=6):
                    pass
            except BaseException:
                continue
        return JSONResponse({"went": "on"})

    async def nothing(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app = one(stubborn)
    app.add_middleware(BaseHTTPMiddleware, dispatch=nothing)
    budgeted(service, app, limits={"tokens": 10}, policy="terminate")
    async with client_of(app) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "BudgetTerminated")


async def test_limits_may_be_those_of_a_template(tmp_path: Path) -> None:
    manifest = tmp_path / "budgetware.toml"
    manifest.write_text("[budgets.api]\ncalls = 1\n")

    async def called(_request: Request) -> JSONResponse:
        async with reserve(calls=1):
            raise AssertionError

    async with (
        connect(manifest) as service,
        client_of(budgeted(service, one(called), name="api")) as client,
    ):
        answer = await client.get("/")
    assert "budget 'api' has 0 of 1 calls left" in answer.json()["error"]["message"]


async def test_a_deadline_ends_a_request(service: QuotaService) -> None:
    async def slow(_request: Request) -> JSONResponse:
        await anyio.sleep_forever()
        raise AssertionError

    async with client_of(budgeted(service, one(slow), limits={"seconds": 0.01})) as client:
        assert (await client.get("/")).json()["error"]["type"] == "BudgetTerminated"


async def test_a_throttled_request_waits_its_turn(service: QuotaService) -> None:
    running: list[int] = []
    go_on = anyio.Event()

    async def held(_request: Request) -> JSONResponse:
        running.append(1)
        await go_on.wait()
        return JSONResponse({})

    service.define_principal("alice", quotas={"calls": Resource("slots", Concurrency(2))})
    answers: list[int] = []
    async with client_of(budgeted(service, one(held))) as client:

        async def ask() -> None:
            answers.append((await client.get("/", headers=ALICE)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask)
            await until(lambda: len(running) == 2)
            await anyio.wait_all_tasks_blocked()
            assert len(running) == 2
            go_on.set()
    assert answers == [200] * 8


@pytest.mark.parametrize("name", ["a b", "<script>", "x" * 129, "ä"])
async def test_a_name_that_cannot_be_is_400(service: QuotaService, name: str) -> None:
    headers = {b"x-user": name.encode("latin-1")}
    async with client_of(budgeted(service, one(hello))) as client:
        answer = await client.get("/", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "BadRequest"


async def test_several_names_are_400(service: QuotaService) -> None:
    async with client_of(budgeted(service, one(hello))) as client:
        answer = await client.get("/", headers=[("x-user", "alice"), ("x-user", "bob")])
    assert answer.status_code == 400


async def test_a_request_without_a_name_pays_as_anonymous(service: QuotaService) -> None:
    quota(service, "anonymous", calls=1)
    async with client_of(budgeted(service, one(hello))) as client:
        codes = [(await client.get("/")).status_code for _ in range(2)]
    assert codes == [200, 429]


async def test_a_callable_says_who_asks_and_what_it_costs(service: QuotaService) -> None:
    async def who(scope: Any) -> str | None:
        return "bob" if scope["path"] == "/" else None

    def costs(scope: Any) -> dict[str, int] | None:
        return {"calls": 3} if scope["method"] == "POST" else None

    app = budgeted(service, one(hello), principal=who, amounts=costs)
    async with client_of(app) as client:
        await client.get("/")
        await client.post("/")
    assert spent(service, "bob") == 3


async def test_what_the_handler_records_is_charged(service: QuotaService) -> None:
    async def measured(_request: Request) -> JSONResponse:
        reservation = request_reservation()
        assert reservation is not None
        reservation.record(tokens=42)
        return JSONResponse({})

    quota(service, tokens=1_000)
    app = budgeted(service, one(measured), amounts={"tokens": 500})
    async with client_of(app) as client:
        await client.get("/", headers=ALICE)
    assert spent(service, dim="tokens") == 42


async def test_a_request_is_settled_before_its_background_tasks(service: QuotaService) -> None:
    states: list[str] = []

    async def later() -> None:
        reservation = request_reservation()
        assert reservation is not None
        states.append(reservation.state)
        async with reserve(tokens=5):
            pass

    async def told(_request: Request) -> JSONResponse:
        return JSONResponse({}, background=BackgroundTask(later))

    quota(service, tokens=100, calls=5)
    async with client_of(budgeted(service, one(told))) as client:
        assert (await client.get("/", headers=ALICE)).status_code == 200
    assert states == ["committed"]
    assert spent(service, dim="tokens") == 5


async def test_a_background_task_that_is_terminated_spoils_no_answer(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    async def later() -> None:
        async with reserve(tokens=50):
            raise AssertionError

    async def told(_request: Request) -> JSONResponse:
        return JSONResponse({"done": True}, background=BackgroundTask(later))

    app = budgeted(service, one(told), limits={"tokens": 10}, policy="terminate")
    async with client_of(app) as client:
        assert (await client.get("/")).json() == {"done": True}
    assert "was terminated" in caplog.text


async def test_a_request_is_no_part_of_its_callers_task(service: QuotaService) -> None:
    names: list[str] = []

    async def named(_request: Request) -> JSONResponse:
        budget = current_budget()
        assert budget is not None
        names.append(budget.path)
        return JSONResponse({})

    async with (
        client_of(budgeted(service, one(named))) as client,
        task_budget("caller", calls=5) as caller,
    ):
        await client.get("/")
        assert caller.spent("calls") == 0
    assert names == ["request"]


async def test_a_stream_that_is_refused_after_its_start_is_cut(service: QuotaService) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        yield b"one"
        async with reserve(tokens=1_000):
            yield b"two"

    async def streamed(_request: Request) -> StreamingResponse:
        return StreamingResponse(numbers())

    quota(service, calls=5)
    app = budgeted(service, one(streamed), limits={"tokens": 10})
    async with served(app) as address, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://{address}/", headers=ALICE)
        assert spent(service) == 1


@pytest.mark.parametrize("recorded", [None, 7])
async def test_a_client_that_leaves_a_stream_is_charged(
    service: QuotaService, recorded: int | None
) -> None:
    events = service.subscribe()

    async def endless() -> AsyncIterator[bytes]:
        reservation = request_reservation()
        assert reservation is not None
        if recorded is not None:
            reservation.record(tokens=recorded)
        while True:
            yield b"x" * 65_536
            await anyio.sleep(0.001)

    async def streamed(_request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    quota(service, tokens=1_000)
    app = budgeted(service, one(streamed), amounts={"tokens": 50})
    async with served(app) as address, httpx.AsyncClient() as client:
        async with client.stream("GET", f"http://{address}/", headers=ALICE) as answer:
            async for _ in answer.aiter_raw():
                break
        await until(lambda: spent(service, dim="tokens"))
    assert spent(service, dim="tokens") == (recorded or 50)
    async for event in events:
        assert event.outcome == "cancelled"
        break


async def test_under_a_real_server_as_many_run_as_are_paid_for(service: QuotaService) -> None:
    app = FastAPI()
    ran: list[int] = []

    @app.get("/sync/{n}")
    def in_a_thread(n: int) -> dict[str, int]:
        ran.append(n)
        with reserve(tokens=1):
            return {"n": n}

    quota(service, calls=10, tokens=100)
    budgeted(service, app, limits={"tokens": 5})
    codes: list[int] = []
    async with served(app) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:

        async def ask(n: int) -> None:
            codes.append((await client.get(f"/sync/{n}", headers=ALICE)).status_code)

        async with anyio.create_task_group() as group:
            for n in range(40):
                group.start_soon(ask, n)
    assert len(ran) == codes.count(200) == 10
    assert codes.count(429) == 30
    assert spent(service, dim="tokens") == 10


async def test_the_lifespan_and_its_service_are_the_apps(anyio_backend: Any) -> None:
    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        async with connect() as opened:
            opened.define_principal("alice", quotas={"calls": Capacity(1)})
            yield

    app = Starlette(routes=[Route("/", hello)], lifespan=lifespan)
    app.add_middleware(BudgetMiddleware, principal="x-user")
    async with served(app) as address, httpx.AsyncClient() as client:
        answers = [await client.get(f"http://{address}/", headers=ALICE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_a_websocket_is_one_task_and_is_closed_by_a_refusal(service: QuotaService) -> None:
    sent: list[Any] = []
    app = FastAPI()

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            async with reserve(tokens=4):
                await socket.send_text(await socket.receive_text())

    quota(service, calls=1)
    budgeted(service, app, limits={"tokens": 10})
    waiting = [{"type": "websocket.connect"}, *[{"type": "websocket.receive", "text": "x"}] * 9]

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "headers": [(b"x-user", b"alice")]}
    scope |= {"query_string": b"", "subprotocols": [], "client": None, "server": None}
    await app(dict(scope), receive, send)
    assert [m["type"] for m in sent] == [
        "websocket.accept", "websocket.send", "websocket.send", "websocket.close",
    ]  # fmt: skip
    assert sent[-1]["code"] == 1013
    assert len(sent[-1]["reason"].encode()) <= 123
    sent.clear()
    await app(dict(scope), receive, send)
    assert [m["type"] for m in sent] == ["websocket.close"]
    sent.clear()
    await app(scope | {"extensions": {"websocket.http.response": {}}}, receive, send)
    assert sent[0]["status"] == 429
    assert json.loads(sent[1]["body"])["error"]["type"] == "QuotaExceeded"


async def test_what_the_app_raises_beyond_errors_passes(service: QuotaService) -> None:
    class Stop(BaseException):
        pass

    async def raw(_scope: Any, _receive: Any, _send: Any) -> None:
        raise Stop

    quota(service, calls=3)
    middleware: Any = BudgetMiddleware(raw, principal="x-user", service=service)
    with pytest.raises(Stop):
        await middleware({"type": "http", "headers": [(b"x-user", b"alice")]}, None, None)
    assert spent(service) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"limits": {"tokens": -1}},
        {"anonymous": "a b"},
        {"policy": "maybe"},
        {"amounts": 5},
        {"amounts": {"requests": -1}},
        {"on_error": "x"},
        {"max_wait": -3},
        {"principal": ""},
        {"principal": "x user"},
    ],
    ids=repr,
)
def test_arguments_that_cannot_be_are_refused_at_once(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        BudgetMiddleware(one(hello), **options)


def test_a_principal_is_a_header_or_a_callable() -> None:
    seven: Any = 7
    with pytest.raises(TypeError, match="name a header"):
        BudgetMiddleware(one(hello), principal=seven)


async def test_a_dimension_that_amounts_names_is_known_by_that() -> None:
    app = one(hello)
    app.add_middleware(BudgetMiddleware, amounts={"page_views": 1})
    async with connect(), client_of(app) as client:
        assert (await client.get("/")).status_code == 200


async def ends_itself(_request: Request) -> PlainTextResponse:
    budget = current_budget()
    assert budget is not None
    budget.terminate("enough")
    for _ in range(3):
        try:
            async with reserve(tokens=1):
                pass
        except BaseException:
            continue
    return PlainTextResponse("went on")


async def sleeps_late(_request: Request) -> PlainTextResponse:
    try:
        await anyio.sleep_forever()
    except BaseException:
        pass
    return PlainTextResponse("late")


@pytest.mark.parametrize("handler", [ends_itself, sleeps_late])
async def test_a_handler_that_hides_its_end_is_429(service: QuotaService, handler: Any) -> None:
    app = budgeted(service, one(handler), limits={"tokens": 10, "seconds": 0.05})
    async with client_of(app) as client:
        answer = await client.get("/", headers=ALICE)
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "BudgetTerminated")


async def test_a_request_that_has_spent_all_of_its_limit_is_answered(service: QuotaService) -> None:
    async def spends(_request: Request) -> PlainTextResponse:
        async with reserve(tokens=10):
            return PlainTextResponse("done")

    app = budgeted(service, one(spends), limits={"tokens": 10}, policy="terminate")
    async with client_of(app) as client:
        assert (await client.get("/")).status_code == 200


async def test_a_bug_after_a_refusal_is_500(service: QuotaService) -> None:
    async def bug(_request: Request) -> PlainTextResponse:
        try:
            async with reserve(tokens=100):
                return PlainTextResponse("had enough")
        except BudgetExceeded:
            raise KeyError("a bug")  # noqa: B904

    app = budgeted(service, one(bug), limits={"tokens": 10})
    async with client_of(app, raise_app_exceptions=False) as client:
        assert (await client.get("/")).status_code == 500


async def test_twice_is_once_and_another_holds_inside(service: QuotaService) -> None:
    quota(service, calls=100)
    app = budgeted(service, budgeted(service, one(hello)))
    async with client_of(app) as client:
        await client.get("/", headers=ALICE)
        assert spent(service) == 1
    other = budgeted(service, budgeted(service, one(hello)), limits={"calls": 1})
    async with client_of(other) as client:
        answer = await client.get("/", headers=ALICE)
    assert answer.status_code == 429
    assert "budget 'request' has 0 of 1 calls left" in answer.text
