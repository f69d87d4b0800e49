"""What follows the question mark: known names, each once, each checked by its schema.

Not here: bodies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from starlette.requests import Request

from ..kernel.dims import NAME
from .failures import bad_request

MOST_NUMBER = 2**53 - 1
_WHOLE = re.compile(r"[0-9]{1,16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d))?")

NAME_PATTERN = "^[A-Za-z0-9._:@-]{1,128}$"
NAME_SCHEMA: Mapping[str, Any] = {"type": "string", "pattern": NAME_PATTERN}
TIME_SCHEMA: Mapping[str, Any] = {
    "description": "RFC 3339, as 2026-11-22T11:26:28Z, or a day, whose UTC midnight is meant",
    "type": "string",
    "anyOf": [{"format": "date-time"}, {"format": "date"}],
}


def number_schema(*, least: int = 0, most: int = MOST_NUMBER, **more: Any) -> Mapping[str, Any]:
    """The schema of a whole number."""
    return {"type": "integer", "minimum": least, "maximum": most, **more}


class Query:
    """Parameters, checked."""

    __slots__ = ("_given",)

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def number(self, name: str) -> int | None:
        """A whole number; None: it was not given."""
        return cast("int | None", self._given.get(name))

    def text(self, name: str) -> str | None:
        """A text; None: it was not given."""
        return cast("str | None", self._given.get(name))

    def texts(self, name: str) -> list[str]:
        """A list; empty: it was not given."""
        return cast("list[str]", self._given.get(name, []))

    def time(self, name: str) -> datetime | None:
        """A time in UTC; None: it was not given."""
        return cast("datetime | None", self._given.get(name))


def read_query(request: Request, schemas: Mapping[str, Mapping[str, Any]] | None) -> Query:
    """Read the parameters of a request; raises `Failure`, which names the one that is wrong."""
    given: dict[str, Any] = {}
    if schemas is None:
        return Query(given)
    for name, value in request.query_params.multi_items():
        schema = schemas.get(name)
        if schema is None:
            known = f"known are {', '.join(schemas)}" if schemas else "there are none here"
            raise bad_request(f"unknown parameter; {known}", name[:200])
        if name in given:
            raise bad_request("the parameter is there twice", name)
        given[name] = _read(name, value, schema)
    return Query(given)


def _read(name: str, value: str, schema: Mapping[str, Any]) -> Any:
    if schema is TIME_SCHEMA:
        return read_time(value, name)
    if schema is NAME_SCHEMA:
        if NAME.fullmatch(value) is None:
            raise bad_request("that is no name", name)
        return value
    if schema["type"] == "integer":
        return _number(name, value, schema)
    if schema["type"] == "array":
        return _list(name, value, schema["items"]["enum"])
    if value not in schema["enum"]:
        raise bad_request(f"give one of {', '.join(schema['enum'])}", name)
    return value


def _number(name: str, value: str, schema: Mapping[str, Any]) -> int:
    least, most = schema["minimum"], schema["maximum"]
    number = int(value) if _WHOLE.fullmatch(value) and value.isascii() else -1
    if not least <= number <= most:
        raise bad_request(f"give a whole number of {least} to {most}", name)
    return number


def _list(name: str, value: str, known: list[str]) -> list[str]:
    """Words with commas between them, each once."""
    words = value.split(",")
    if not all(word in known for word in words) or len(set(words)) < len(words):
        raise bad_request(f"give some of {', '.join(known)}, with commas between them", name)
    return words


def read_time(value: str, name: str) -> datetime:
    """A time as RFC 3339 has it; raises `Failure`."""
    try:
        if _TIME.fullmatch(value) is None or not value.isascii():
            raise ValueError
        found = datetime.fromisoformat(value.upper())
        return found.replace(tzinfo=UTC) if len(value) == 10 else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad_request(
            "give a time as 2026-11-22T11:26:28Z, or a day as 2026-11-22 (write a + as %2B)", name
        ) from None
