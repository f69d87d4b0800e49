"""Exported tokens on their way: in HTTP headers, and in the `_meta` of MCP.

An agent hands a sub-agent on another machine a budget of its own:

    part = token.split(200, allowance=10_000)
    headers: dict[str, str] = {}
    inject(headers, part, expires_in="5m", audience="searcher")
    reply = await client.post("https://searcher.example/run", headers=headers)

and the sub-agent, whose service shares the ledger and a key, pays from that:

    text = extract(request.headers)
    if text is not None:
        async with service.import_token(text, audience="searcher") as token:
            ...  # @budgeted calls in here draw on it

What it did not spend goes home in the same way, in the headers of the response, and there:
`token.merge(service.import_token(text))`.

A server that does not know its service takes the text by `take`.

With MCP it is `inject_meta` and `extract_meta`. The SDK for Python has the one as
`session.call_tool(name, arguments, meta=meta)`, the other as `context.request_context.meta`.

Not here: what a token is, and who may take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Protocol, cast, overload

from .errors import ConfigurationError, TokenInvalid
from .frames import current_frame
from .quota_tokens import QuotaToken, import_token
from .token_texts import check_shape

HEADER = "Budgetware-Token"
"""The name of the header; case does not matter."""
META_KEY = "budgetware/token"
"""The key in `_meta`: a prefix that is not reserved for MCP, a slash, and a name."""


class ReadableHeaders(Protocol):
    """Headers as one reads them: a dict, or those of an HTTP library."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values; a name may come several times."""
        ...


class WritableHeaders(ReadableHeaders, Protocol):
    """Headers that one may add to."""

    def __setitem__(self, name: str, value: str, /) -> None: ...


@overload
def inject(headers: WritableHeaders, token: str) -> None: ...
@overload
def inject(
    headers: WritableHeaders,
    token: QuotaToken,
    *,
    expires_in: float | str,
    audience: str | None = None,
) -> None: ...
def inject(
    headers: WritableHeaders,
    token: QuotaToken | str,
    *,
    expires_in: float | str | None = None,
    audience: str | None = None,
) -> None:
    """Put a token into the headers of one request: an exported one, or one that this exports.

    Use fresh headers for each request: those that a client sends to everybody would give the token
    to everybody. Should the request not get there, take the token back, see `QuotaToken.export`.

    Args:
        expires_in, audience: for the export of a `QuotaToken`.

    Raises:
        ConfigurationError: these are no headers, there is a token in them already, or an argument
            is missing; nothing has changed.
        TokenInvalid: the text is no exported token.
        QuotaTokenError, InvalidAmount: it cannot be exported; nothing has changed.
    """
    _check_writable("headers", headers)
    if _found(headers):
        raise _taken("headers", HEADER)
    headers[HEADER] = _text(token, expires_in, audience)


def extract(headers: ReadableHeaders) -> str | None:
    """Find the token in the headers of a request; None: there is none.

    Raises:
        TokenInvalid: there are several, or it does not look like one. Whether it is worth
            anything, `QuotaService.import_token` tells.
        ConfigurationError: these are no headers.
    """
    if not callable(getattr(type(headers), "items", None)):
        raise ConfigurationError(
            f"headers of type {type(headers).__name__}: give a mapping such as request.headers"
        )
    values = _found(headers)
    if not values:
        return None
    # Some libraries join the values of one name by commas.
    if len(values) > 1 or (isinstance(values[0], str) and "," in values[0]):
        raise TokenInvalid(f"there are several headers {HEADER}: a request has one token")
    return _checked(values[0])


def _found(headers: ReadableHeaders) -> list[object]:
    wanted = HEADER.lower()
    values: list[object] = []
    for name, value in headers.items():
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"a header's name is of type {type(name).__name__}: give headers as str"
            )
        if name.lower() == wanted:
            values.append(value)
    return values


@overload
def inject_meta(meta: MutableMapping[str, Any], token: str) -> None: ...
@overload
def inject_meta(
    meta: MutableMapping[str, Any],
    token: QuotaToken,
    *,
    expires_in: float | str,
    audience: str | None = None,
) -> None: ...
def inject_meta(
    meta: MutableMapping[str, Any],
    token: QuotaToken | str,
    *,
    expires_in: float | str | None = None,
    audience: str | None = None,
) -> None:
    """Put a token into the `_meta` of one MCP request; arguments and errors as of `inject`."""
    _check_writable("meta", meta)
    if META_KEY in meta:
        raise _taken("meta", META_KEY)
    meta[META_KEY] = _text(token, expires_in, audience)


def extract_meta(meta: object) -> str | None:
    """Find the token in the `_meta` of an MCP request; None: there is none.

    Args:
        meta: a mapping, the SDK's model of one, or None, as of a request without `_meta`.

    Raises:
        TokenInvalid, ConfigurationError: as of `extract`.
    """
    if meta is None:
        return None
    fields: object = getattr(meta, "model_extra", meta)
    if fields is None:
        return None
    if not isinstance(fields, Mapping):
        raise ConfigurationError(
            f"meta of type {type(meta).__name__}: give the _meta of the request, a mapping or None"
        )
    known = cast("Mapping[object, object]", fields)
    return _checked(known[META_KEY]) if META_KEY in known else None


def take(text: str, *, audience: str | None = None) -> QuotaToken:
    """Take an exported token into the service that is current; see `QuotaService.import_token`.

    Blocks where the service has a ledger.

    Raises:
        TokenInvalid, TokenConsumed, ResourceMismatch, UnknownResource, ConfigurationError,
        LedgerUnavailable: as of `QuotaService.import_token`.
    """
    return import_token(text, current_frame().runtime, audience)


def _check_writable(what: str, carrier: object) -> None:
    kind = type(carrier)
    if not all(callable(getattr(kind, name, None)) for name in ("items", "__setitem__")):
        raise ConfigurationError(
            f"{what} of type {kind.__name__}: give a mapping that can be added to, such as a dict"
        )


def _taken(what: str, key: str) -> ConfigurationError:
    return ConfigurationError(
        f"there is a {key} in these {what} already: use fresh ones for each request"
    )


def _text(token: QuotaToken | str, expires_in: float | str | None, audience: str | None) -> str:
    if isinstance(token, QuotaToken):
        if expires_in is None:
            raise ConfigurationError(
                'inject exports a QuotaToken: say how long that is valid, as in expires_in="5m"'
            )
        return token.export(expires_in=expires_in, audience=audience)
    if expires_in is not None or audience is not None:
        raise ConfigurationError(
            "expires_in and audience are for the export of a QuotaToken; a text is exported already"
        )
    return _checked(token)


def _checked(value: object) -> str:
    check_shape(value)
    return str(value)
