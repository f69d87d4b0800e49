"""Bodies of requests: small JSON objects, read strictly. Not here: what their fields may hold.

What JSON readers disagree about is refused: keys that come twice, NaN, numbers of any length,
nesting without end. So are fields that nobody asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import anyio
from starlette.requests import ClientDisconnect, Request

from ..manifest.values import Real
from .failures import Failure, bad_request, server_leaving
from .leaving import until_server_leaves

BODY_SECONDS = 10.0
MOST_BYTES: Final = 64 * 1_024
MOST_DEPTH: Final = 16
MOST_DIGITS: Final = 40


async def read_json(request: Request, *, is_optional: bool = False) -> dict[str, Any]:
    """Read the object that a request carries; `Real` stands for numbers with a point.

    Raises:
        Failure: 408, 413, 415 or 400, which names the field; 503 where the server ends first.
    """
    body = await _read(request)
    if not body and is_optional:
        return {}
    _check_type(request)
    return parse_object(body)


async def _read(request: Request) -> bytes:
    """The bytes, if they come in time, and before the server ends."""
    found: bytes | Failure | None = None

    async def leave() -> None:
        nonlocal found
        await until_server_leaves()
        found = server_leaving()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.cancel_scope.deadline = anyio.current_time() + BODY_SECONDS
        tasks.start_soon(leave)
        found = await _gather(request)
        tasks.cancel_scope.cancel()
    if isinstance(found, bytes):
        return found
    raise found or too_slow()


async def _gather(request: Request) -> bytes | Failure:
    chunks: list[bytes] = []
    size = 0
    try:
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                size += len(chunk)
                if size > MOST_BYTES:
                    return too_large()
                chunks.append(chunk)
    except ClientDisconnect:
        return bad_request("the body broke off")
    return b"".join(chunks)


def too_large() -> Failure:
    """The body has more bytes than any operation takes."""
    return Failure(
        413, "TooLarge", f"a body has at most {MOST_BYTES} bytes", headers={"Connection": "close"}
    )


def too_slow() -> Failure:
    """The body has not come."""
    return Failure(
        408,
        "RequestTimeout",
        f"the whole body has to come within {BODY_SECONDS:g} seconds",
        headers={"Connection": "close"},
    )


def _check_type(request: Request) -> None:
    kinds = request.headers.getlist("content-type")
    media, _, parameters = kinds[0].partition(";") if kinds else ("", "", "")
    charset = parameters.strip().lower().replace('"', "")
    is_json = len(kinds) == 1 and media.strip().lower() == "application/json"
    if not is_json or charset not in ("", "charset=utf-8"):
        raise Failure(415, "UnsupportedMediaType", "send JSON: Content-Type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Failure(415, "UnsupportedMediaType", "send the body as it is, not encoded")


@dataclass(frozen=True, slots=True)
class _Object:
    """An object as it was written."""

    pairs: Sequence[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A number that cannot be."""

    message: str


def parse_object(body: bytes) -> dict[str, Any]:
    """The object of a JSON text; raises `Failure`, which names the field."""
    try:
        found: object = json.loads(
            body.decode(),
            object_pairs_hook=_Object,
            parse_constant=_constant,
            parse_float=_real,
            parse_int=_whole,
        )
    except RecursionError:
        _too_deep(None)
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise bad_request(f"the body is no JSON in UTF-8{place}") from None
    if not isinstance(found, _Object):
        raise bad_request("the body is no JSON object: send {…}")
    return cast("dict[str, Any]", _plain(found, ()))


def _constant(name: str) -> _Wrong:
    return _Wrong(f"{name} is no number of JSON")


def _real(text: str) -> Real | _Wrong:
    return Real(text) if len(text) <= MOST_DIGITS else _too_long()


def _whole(text: str) -> int | _Wrong:
    return int(text) if len(text) <= MOST_DIGITS else _too_long()


def _too_long() -> _Wrong:
    return _Wrong(f"a number has at most {MOST_DIGITS} characters")


def _too_deep(field: str | None) -> NoReturn:
    raise bad_request(f"the body is nested in more than {MOST_DEPTH} levels", field)


def _plain(value: object, path: tuple[str, ...]) -> object:
    """The value with dicts in it; whatever is wrong in it is refused by its path."""
    if isinstance(value, _Wrong):
        raise bad_request(value.message, dotted(path))
    if len(path) > MOST_DEPTH:
        _too_deep(dotted(path))
    if isinstance(value, _Object):
        return _table(value.pairs, path)
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_plain(item, (*path, str(place))) for place, item in enumerate(items)]
    if isinstance(value, str) and not _is_text(value):
        raise bad_request("half of a surrogate pair is no text", dotted(path))
    return value


def _table(pairs: Sequence[tuple[str, object]], path: tuple[str, ...]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if not _is_text(key):
            raise bad_request("half of a surrogate pair is no text", dotted(path) or None)
        inner = (*path, key)
        if key in table:
            raise bad_request("the field is there twice", dotted(inner))
        table[key] = _plain(value, inner)
    return table


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def dotted(path: Sequence[str]) -> str:
    """A path as errors show it, cut to a length."""
    return ".".join(path)[:200]


def only(body: Mapping[str, Any], known: Sequence[str], needed: Sequence[str] = ()) -> None:
    """Raise unless the body has these fields alone, and all that are needed."""
    for name in body:
        if name not in known:
            raise bad_request(f"unknown field; known are {', '.join(known)}", name[:200])
    for name in needed:
        if name not in body:
            raise bad_request("the field is missing", name)


def text(body: Mapping[str, Any], name: str, *, least: int = 1, most: int = 256) -> str:
    """A text of the body."""
    value = body.get(name)
    if isinstance(value, str) and least <= len(value) <= most:
        return value
    raise bad_request(f"give a text of {least} to {most} characters", name)
