"""Bodies and parameters that cannot be: what is answered, which field is named, nothing changes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from budgetware import QuotaService
from budgetware.admin import bodies
from tests.admin.desk import SECRETS, URL, asking, bearer, raw, served

RESOURCES = "/api/sys/resources"
JSON = {"Content-Type": "application/json"}
LIMIT = '{"type": "capacity", "value": 5}'


def error_of(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"].get("field")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", None),
        ("{", None),
        ("[]", None),
        ("5", None),
        ('"text"', None),
        ("null", None),
        ("\ufeff{}", None),
        ("[" * 30_000, None),
        ('{"a":' * 10_000, None),
        ('{"limit":' * 20 + "1" + "}" * 20, ".".join(["limit"] * 17)),
        ("{}", "name"),
        ('{"name": "a"}', "limit"),
        (f'{{"name": "a", "name": "b", "limit": {LIMIT}}}', "name"),
        ('{"name": "a", "limit": {"type": "rate", "type": "rate"}}', "limit.type"),
        (f'{{"name": "a", "limit": {LIMIT}, "extra": 1}}', "extra"),
        (f'{{"name": "a\\u0000", "limit": {LIMIT}}}', "name"),
        (f'{{"name": "\\ud800", "limit": {LIMIT}}}', "name"),
        (f'{{"name": "<b>", "limit": {LIMIT}}}', "name"),
        (f'{{"name": "{"a" * 129}", "limit": {LIMIT}}}', "name"),
        (f'{{"name": 5, "limit": {LIMIT}}}', "name"),
        (f'{{"name": null, "limit": {LIMIT}}}', "name"),
        ('{"name": "a", "limit": 5}', "limit"),
        ('{"name": "a", "limit": null}', "limit"),
        ('{"name": "a", "limit": {"type": "flat", "value": 5}}', "limit.type"),
        ('{"name": "a", "limit": {"type": "capacity"}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": NaN}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": Infinity}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": -Infinity}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": 1e300000}}', "limit.value"),
        (
            f'{{"name": "a", "limit": {{"type": "capacity", "value": {"9" * 5_000}}}}}',
            "limit.value",
        ),
        (f'{{"name": "a", "limit": {{"type": "capacity", "value": {2**53}}}}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": 0}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": -1}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": 1.5}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": true}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": "5"}}', "limit.value"),
        ('{"name": "a", "limit": {"type": "capacity", "value": 5, "max": 5}}', "limit.max"),
        ('{"name": "a", "limit": {"type": "rate", "value": 5}}', "limit.period"),
        (
            '{"name": "a", "limit": {"type": "rate", "value": 5, "period": "week"}}',
            "limit.period",
        ),
        (f'{{"name": "a", "limit": {LIMIT}, "dim": "Tokens!"}}', "dim"),
        (f'{{"name": "a", "limit": {LIMIT}, "dim": "millis"}}', "limit"),
        (f'{{"name": "a", "limit": {LIMIT}, "parent": "none"}}', "parent"),
        (f'{{"name": "a", "limit": {LIMIT}, "enforcement": "warn"}}', "enforcement"),
        (f'{{"name": "a", "limit": {LIMIT}, "max_wait": -1}}', "max_wait"),
        (f'{{"name": "a", "limit": {LIMIT}, "unit": "\\u001b[2J"}}', "unit"),
        (f'{{"name": "usd", "limit": {LIMIT}}}', "name"),
    ],
)
async def test_a_body_that_cannot_be_is_refused_by_its_field(
    app: Any, service: QuotaService, body: str, field: str | None
) -> None:
    async with asking(app) as client:
        content = body.encode("utf-8", "surrogatepass")
        answer = await client.post(RESOURCES, content=content, headers=JSON)
    assert error_of(answer) == (400, field)
    assert len(service.resources()) == 2


@pytest.mark.parametrize("body", [b"\xff\xfe{}", b'{"name": "\xc3"}', b"\x00"])
async def test_a_body_that_is_no_utf8_is_refused(app: Any, body: bytes) -> None:
    async with asking(app) as client:
        answer = await client.post(RESOURCES, content=body, headers=JSON)
    assert error_of(answer) == (400, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/jsonp"},
        {**JSON, "Content-Encoding": "gzip"},
    ],
)
async def test_anything_but_json_is_refused(app: Any, headers: dict[str, str]) -> None:
    body = f'{{"name": "a", "limit": {LIMIT}}}'
    async with asking(app) as client:
        answer = await client.post(RESOURCES, content=body, headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8"])
async def test_json_is_taken_however_it_is_written(app: Any, kind: str) -> None:
    body = f'{{"name": "a", "limit": {LIMIT}}}'
    async with asking(app) as client:
        answer = await client.post(RESOURCES, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 201


def padded(size: int) -> bytes:
    start = f'{{"name": "a", "limit": {LIMIT}'.encode()
    return start + b" " * (size - len(start) - 1) + b"}"


class Chunks(httpx.AsyncByteStream):
    """A body in parts; what is not asked for is not sent."""

    def __init__(self, body: bytes) -> None:
        self._parts = [body[start : start + 1_000] for start in range(0, len(body), 1_000)]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop(0)


@pytest.mark.parametrize(("size", "status"), [(65_536, 201), (65_537, 413)])
async def test_a_body_has_a_size_at_most(app: Any, size: int, status: int) -> None:
    async with asking(app) as client:
        answer = await client.post(RESOURCES, content=padded(size), headers=JSON)
    assert answer.status_code == status


@pytest.mark.parametrize(("size", "status"), [(65_536, 201), (65_537, 413)])
async def test_so_has_one_whose_size_is_not_told(app: Any, size: int, status: int) -> None:
    async with asking(app) as client:
        request = httpx.Request(
            "POST",
            f"{URL}{RESOURCES}",
            headers={"Host": "localhost", **JSON, **bearer("ops")},
            stream=Chunks(padded(size)),
        )
        answer = await client.send(request)
    assert "content-length" not in request.headers
    assert answer.status_code == status


async def test_a_size_that_is_no_number_is_refused(app: Any) -> None:
    async with asking(app) as client:
        answer = await client.post(RESOURCES, content=b"{}", headers={"Content-Length": "-5"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/usage?since=yesterday", "since"),
        ("/usage?since=2026-11-22T00:00:00", "since"),
        ("/usage?since=2026-13-22", "since"),
        ("/usage?since=0001-01-01", "since"),
        ("/usage?until=9999-12-31T23:59:59-14:00", "until"),
        ("/usage?since=2026-11-22&until=2026-11-21", "since"),
        ("/usage?until=9999-12-31T23:59:59Z", "since"),
        ("/usage?since=1971-01-01&bucket=hour", "since"),
        ("/usage?bucket=week", "bucket"),
        ("/usage?by=colour", "by"),
        ("/usage?by=model,model", "by"),
        ("/usage?by=", "by"),
        ("/usage?principal=a%20b", "principal"),
        ("/usage?principals=alice", "principals"),
        ("/usage?bucket=day&bucket=hour", "bucket"),
        ("/api/sys/events?after=-1", "after"),
        ("/api/sys/events?after=1.5", "after"),
        ("/api/sys/events?after=%D9%A1", "after"),
        ("/api/sys/events?after=99999999999999999", "after"),
        ("/api/sys/events?limit=0", "limit"),
        ("/api/sys/events?limit=1001", "limit"),
        ("/events?after=x", "after"),
        ("/api/sys/tasks?all=1", "all"),
    ],
)
async def test_a_parameter_that_cannot_be_is_refused_by_its_name(
    app: Any, path: str, field: str
) -> None:
    async with asking(app) as client:
        assert error_of(await client.get(path)) == (400, field)


async def test_what_is_repeated_of_a_request_is_escaped(app: Any) -> None:
    async with asking(app) as client:
        answer = await client.get("/usage?%3Cscript%3E%1b%7f%C2%9B=1")
    assert answer.json()["error"]["field"] == "<script>\x1b\x7f\x9b"
    assert all(32 <= byte < 127 and byte not in b"<>&" for byte in answer.content)


def unfinished(sent: str = "") -> bytes:
    """A request whose body is told to be longer than what comes."""
    lines = (
        "POST /api/sys/resources HTTP/1.1",
        "Host: localhost",
        "Content-Length: 50",
        "Content-Type: application/json",
        f"Authorization: Bearer {SECRETS['ops']}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + sent).encode()


@pytest.mark.parametrize("sent", ["", '{"name": '])
def test_a_body_that_does_not_come_is_not_waited_for(
    app: Any, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    with served(app) as url, raw(url, unfinished(sent)) as opened:
        received = b""
        while part := opened.recv(1 << 16):  # until the server ends the connection
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["type"] == "RequestTimeout"


def test_a_body_has_ten_seconds() -> None:
    assert bodies.BODY_SECONDS == 10.0
