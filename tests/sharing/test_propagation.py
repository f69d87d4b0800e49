"""Tokens in HTTP headers and in the `_meta` of MCP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from types import MappingProxyType, SimpleNamespace
from typing import Any

import httpx
import pytest

from budgetware import Capacity, QuotaService, QuotaToken, Resource, connect
from budgetware.errors import ConfigurationError, InvalidAmount, QuotaTokenError, TokenInvalid
from budgetware.propagation import (
    HEADER,
    META_KEY,
    extract,
    extract_meta,
    inject,
    inject_meta,
)
from budgetware.testing import VirtualClock
from tests.sharing.conftest import Keep

TEXT = "bwt1.e30." + "A" * 43
STRANGE_TEXTS: list[Any] = [
    *("", "x", f"{TEXT}\r\nX-Other: 1", f" {TEXT}", f"{TEXT}é", f"Bearer {TEXT}", f"{TEXT}A"),
    *("bwt1." + "A" * 4_096 + TEXT[8:], 7, None, TEXT.encode(), [TEXT]),
]


@pytest.fixture
def service(clock: VirtualClock) -> Iterator[QuotaService]:
    with connect(clock=clock, token_keys={"k1": bytes(range(32))}) as connected:
        connected.define(Resource("api", Capacity(1_000), "reject", dim="tokens"))
        yield connected


# Headers.


async def test_an_agent_hands_a_budget_to_another_machine(
    service: QuotaService, keep: Keep
) -> None:
    async def searcher(request: httpx.Request) -> httpx.Response:
        text = extract(request.headers)
        assert text is not None
        token = service.import_token(text, audience="searcher")
        async with token, token.reserve(20) as reservation:
            reservation.commit(15)
        response = httpx.Response(200)
        inject(response.headers, token, expires_in="5m", audience="planner")
        return response

    token = keep(QuotaToken("api", 100, allowance=50))
    headers: dict[str, str] = {}
    inject(headers, token.split(40, allowance=30), expires_in="5m", audience="searcher")
    async with httpx.AsyncClient(transport=httpx.MockTransport(searcher)) as client:
        response = await client.post("https://searcher.example/run", headers=headers)
    text = extract(response.headers)
    assert text is not None
    token.merge(service.import_token(text, audience="planner"))
    assert (token.expected_use, token.allowance) == (100, 35)


@pytest.mark.parametrize("name", [HEADER, HEADER.lower(), HEADER.upper()])
@pytest.mark.parametrize("kind", [dict, httpx.Headers, MappingProxyType])
def test_case_does_not_matter(name: str, kind: Any) -> None:
    assert extract(kind({"Accept": "*/*", name: TEXT})) == TEXT


@pytest.mark.parametrize("headers", [{}, {"Accept": "*/*"}, httpx.Headers(), Message()])
def test_headers_without_a_token_have_none(headers: Any) -> None:
    assert extract(headers) is None


def test_an_exported_text_goes_as_it_is() -> None:
    headers = httpx.Headers({"accept": "*/*"})
    inject(headers, TEXT)
    assert dict(headers) == {"accept": "*/*", "budgetware-token": TEXT}


def twice() -> Message:
    message = Message()
    message[HEADER] = TEXT
    message[HEADER.lower()] = TEXT
    return message


@pytest.mark.parametrize(
    "headers",
    [
        {HEADER: TEXT, HEADER.lower(): TEXT},
        {HEADER: f"{TEXT}, {TEXT}"},
        httpx.Headers([(HEADER, TEXT), (HEADER, TEXT)]),
        twice(),
    ],
    ids=["cases", "joined", "httpx", "message"],
)
def test_several_tokens_are_refused(headers: Any) -> None:
    with pytest.raises(TokenInvalid, match="several") as error:
        extract(headers)
    assert TEXT not in str(error.value)


@pytest.mark.parametrize("strange", STRANGE_TEXTS)
def test_what_does_not_look_like_a_token_is_refused(strange: Any) -> None:
    headers: dict[str, str] = {}
    meta: dict[str, object] = {}
    with pytest.raises(TokenInvalid):
        extract({HEADER: strange})
    with pytest.raises(TokenInvalid):
        extract_meta({META_KEY: strange})
    with pytest.raises(TokenInvalid):
        inject(headers, strange)
    with pytest.raises(TokenInvalid):
        inject_meta(meta, strange)
    assert headers == meta == {}


@pytest.mark.parametrize("headers", [None, "text", [(HEADER, TEXT)], 7, {HEADER}])
def test_what_are_no_headers_is_refused(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="headers of type"):
        extract(headers)
    with pytest.raises(ConfigurationError, match="headers of type"):
        inject(headers, TEXT)


def test_headers_in_bytes_are_refused_rather_than_overlooked() -> None:
    headers: Any = {HEADER.encode(): TEXT.encode()}
    with pytest.raises(ConfigurationError, match="of type bytes"):
        extract(headers)


@pytest.mark.parametrize(
    "headers",
    [
        MappingProxyType[str, str]({}),
        {HEADER: TEXT},
        {HEADER.lower(): ""},
        httpx.Headers({HEADER: TEXT}),
    ],
    ids=["read-only", "taken", "taken in lower case", "httpx"],
)
def test_headers_that_cannot_take_it_cost_nothing(
    service: QuotaService, keep: Keep, headers: Any
) -> None:
    token = keep(QuotaToken("api", 100, allowance=30))
    with pytest.raises(ConfigurationError):
        inject(headers, token, expires_in=60)
    token.reserve_nowait(30).commit()


def test_a_token_that_cannot_be_exported_leaves_the_headers_alone(
    service: QuotaService, keep: Keep
) -> None:
    token: Any = keep(QuotaToken("api", 100, allowance=30))
    headers: dict[str, str] = {}
    with pytest.raises(ConfigurationError, match='expires_in="5m"'):
        inject(headers, token)
    with pytest.raises(InvalidAmount):
        inject(headers, token, expires_in="99d")
    with token.reserve(1), pytest.raises(QuotaTokenError):
        inject(headers, token, expires_in="5m")
    assert headers == {}


def test_a_text_is_exported_already() -> None:
    text: Any = TEXT
    with pytest.raises(ConfigurationError, match="exported already"):
        inject({}, text, expires_in="5m")
    with pytest.raises(ConfigurationError, match="exported already"):
        inject_meta({}, text, expires_in=60, audience="searcher")


# MCP.


def test_a_token_travels_in_meta(service: QuotaService, keep: Keep) -> None:
    meta: dict[str, object] = {"progressToken": 1}
    inject_meta(meta, QuotaToken("api", 40, allowance=30), expires_in="5m", audience="searcher")
    text = extract_meta(meta)
    assert text is not None
    assert meta == {"progressToken": 1, META_KEY: text}
    assert keep(service.import_token(text, audience="searcher")).allowance == 30


def test_the_key_is_one_that_mcp_allows() -> None:
    label = "[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    name = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    assert re.fullmatch(rf"{label}(?:\.{label})*/{name}", META_KEY)
    assert not {"mcp", "modelcontextprotocol"} & set(META_KEY.split("/")[0].split("."))


@pytest.mark.parametrize(
    "meta", [None, {}, {"progressToken": 1}, SimpleNamespace(model_extra=None)], ids=repr
)
def test_meta_without_a_token_has_none(meta: object) -> None:
    assert extract_meta(meta) is None


def test_the_model_of_the_sdk_is_read() -> None:
    assert extract_meta(SimpleNamespace(progressToken=1, model_extra={META_KEY: TEXT})) == TEXT


@pytest.mark.parametrize("meta", ["text", 7, [META_KEY], SimpleNamespace()])
def test_what_is_no_meta_is_refused(meta: Any) -> None:
    with pytest.raises(ConfigurationError, match="meta of type"):
        extract_meta(meta)


def test_a_meta_that_has_a_token_takes_no_other(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=30))
    read_only: Any = MappingProxyType[str, str]({})
    with pytest.raises(ConfigurationError, match="already"):
        inject_meta({META_KEY: TEXT}, token, expires_in=60)
    with pytest.raises(ConfigurationError, match="meta of type"):
        inject_meta(read_only, token, expires_in=60)
    token.reserve_nowait(30).commit()
