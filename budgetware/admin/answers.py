"""Answers as JSON that is safe to print and to embed. Not here: what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from starlette.responses import Response

# In JSON these stand inside of texts alone; a browser or a terminal could take them for its own.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\x7f"}


def json_text(document: Any) -> str:
    """A document as JSON in ASCII: control characters and HTML are escaped, money is a text."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False, default=_as_json)
    return text.translate(_ESCAPES)


def _as_json(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
    raise TypeError(f"{type(value).__name__} is no JSON")


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of a document."""
    return Response(json_text(document), status, headers, media_type="application/json")
