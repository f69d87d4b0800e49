"""Whatever bytes come: only answers that the document tells of, and never a failure of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budgetware import Capacity, Resource, admin, connect
from tests.admin.desk import KEYS, SECRETS

STATUSES = {200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 415, 429, 503}
PATHS = (
    "/healthz", "/usage", "/api/sys/overview", "/api/sys/events", "/api/sys/principals",
    "/api/sys/principals/a/usage", "/api/sys/principals/a/quotas", "/api/sys/resources",
    "/api/sys/resources/pages", "/api/sys/tasks/x", "/api/sys/tasks/x/terminate",
    "/api/sys/tasks/x/top_up", "/openapi.json", "/",
)  # fmt: skip
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "get", "\x00")
FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

header_bytes = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b""))
header_names = st.sampled_from(
    [
        b"host", b"authorization", b"content-type", b"content-length", b"content-encoding",
        b"if-match", b"last-event-id", b"x-forwarded-for", b"transfer-encoding", b"cookie",
    ]
)  # fmt: skip
headers = st.lists(st.tuples(header_names, header_bytes), max_size=4)
paths = st.sampled_from(PATHS) | st.text(max_size=30).map(lambda text: f"/{text}")
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["rate", "capacity", "minute", "tokens", "1.5", "64MiB", "throttle", "30s"])
)  # fmt: skip
fields = st.sampled_from(
    [
        "name", "limit", "type", "value", "period", "max", "enforcement", "dim", "parent", "unit",
        "max_wait", "quotas", "tokens", "usd", "exempt", "amounts", "request_id", "reason",
        "expected_revision", "principal", "patience",
    ]
)  # fmt: skip
documents = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(fields | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def asked() -> Iterator[Any]:
    """Sends one request as a server would hand it over; gives the status and the body."""
    with connect() as service:
        service.define(Resource("pages", Capacity(100), "reject"))
        app = admin.app(service, keys=KEYS)

        def ask(
            method: str,
            path: str,
            body: bytes = b"",
            more: Any = (),
            query: bytes = b"",
            *,
            is_known: bool = True,
        ) -> tuple[int, bytes]:
            given_headers = list(more)
            if is_known:
                secret = f"Bearer {SECRETS['ops']}".encode()
                given_headers += [(b"authorization", secret), (b"host", b"localhost")]
            return anyio.run(_ask, app, method, path, body, given_headers, query)

        yield ask


async def _ask(
    app: Any, method: str, path: str, body: bytes, given_headers: Any, query: bytes
) -> tuple[int, bytes]:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode("utf-8", "replace"),
        "query_string": query, "root_path": "", "headers": given_headers,
        "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8470),
    }  # fmt: skip
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [message["type"] for message in sent[:1]] == ["http.response.start"]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def is_told_of(found: tuple[int, bytes]) -> None:
    status, body = found
    assert status in STATUSES
    assert status < 400 or json.loads(body or b"{}") is not None


@FUZZ
@given(st.sampled_from(METHODS), paths, st.binary(max_size=200), headers)
def test_bytes_are_answered(asked: Any, method: str, path: str, body: bytes, more: Any) -> None:
    is_told_of(asked(method, path, body, more, is_known=False))


@FUZZ
@given(st.sampled_from(METHODS), paths, st.binary(max_size=60), headers)
def test_parameters_are_answered(
    asked: Any, method: str, path: str, query: bytes, more: Any
) -> None:
    is_told_of(asked(method, path, b"", more, query))


@FUZZ
@given(
    st.sampled_from(
        [
            ("POST", "/api/sys/resources"),
            ("PUT", "/api/sys/resources/pages"),
            ("PUT", "/api/sys/principals/a/quotas"),
            ("POST", "/api/sys/tasks/x/top_up"),
            ("POST", "/api/sys/tasks/x/terminate"),
        ]
    ),
    documents,
)
def test_documents_are_answered(asked: Any, where: tuple[str, str], document: Any) -> None:
    body = json.dumps(document).encode()
    is_told_of(asked(*where, body, [(b"content-type", b"application/json")]))


@FUZZ
@given(st.binary(max_size=300))
def test_bytes_that_are_called_json_are_answered(asked: Any, body: bytes) -> None:
    found = asked("POST", "/api/sys/resources", body, [(b"content-type", b"application/json")])
    assert found[0] == 400
