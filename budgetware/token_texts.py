"""The signed text that an exported quota token is: `bwt1.<content>.<signature>`.

Content and signature are base64url without padding. The content is JSON in one form only: these
fields, all of them, sorted, without spaces, in ASCII. The signature is the HMAC-SHA256 of
`budgetware-token-1:` and that JSON.

| field | value |
|---|---|
| `allowance`, `expected_use` | ints above 0, in units (`usd`: micro-dollars); the first or null |
| `aud` | who may import it: 1 to 256 printable ASCII characters without space, or null |
| `dim`, `kind`, `resource` | dimension or null, kind and name of the resource |
| `exp` | when it ends, in seconds since the epoch |
| `jti` | its id, 32 hex digits |
| `kid` | the name of the key that signed it |

Not here: what a text is worth (`exports`), and keys (`token_keys`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from .errors import TokenInvalid
from .kernel.dims import MAX_AMOUNT, NAME, USER_DIM
from .token_keys import TokenKeys

MOST_CHARACTERS = 4_096
AUDIENCE = re.compile(r"[!-~]{1,256}")
KINDS = ("rate", "capacity", "concurrency")
_SHAPE = re.compile(r"bwt1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")
_PURPOSE = b"budgetware-token-1:"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a text says of the token that it is; amounts are in units."""

    token: str
    resource: str
    kind: str
    dim: str | None
    expected_use: int
    allowance: int | None
    expires: int
    audience: str | None


def sign(claims: Claims, keys: TokenKeys) -> str:
    """Make the text, with the newest key."""
    kid = keys.newest
    content = {
        "allowance": claims.allowance,
        "aud": claims.audience,
        "dim": claims.dim,
        "exp": claims.expires,
        "expected_use": claims.expected_use,
        "jti": claims.token,
        "kid": kid,
        "kind": claims.kind,
        "resource": claims.resource,
    }
    assert _is_content(content)
    payload = _canonical(content)
    text = f"bwt1.{_encode(payload)}.{_encode(keys.mac(kid, _PURPOSE + payload))}"
    assert len(text) <= MOST_CHARACTERS
    return text


def verify(text: object, keys: TokenKeys) -> Claims:
    """Say what a text claims, if one of the keys signed it; time and audience are not looked at.

    Raises:
        TokenInvalid: it was not made by `sign` with one of these keys, or was changed.
    """
    payload, mac = (_decode(part) for part in _parts(text))
    if payload is None or mac is None:
        raise _malformed()
    kid = keys.signer(_PURPOSE + payload, mac)
    if kid is None:
        raise TokenInvalid(
            "none of this service's keys has signed this text: it was changed, or comes from one "
            "that signs with another key"
        )
    content = _load(payload)
    if content is None or content["kid"] != kid:
        raise TokenInvalid(
            "this text is signed, but does not say what a token says: another version made it"
        )
    return Claims(
        token=content["jti"],
        resource=content["resource"],
        kind=content["kind"],
        dim=content["dim"],
        expected_use=content["expected_use"],
        allowance=content["allowance"],
        expires=content["exp"],
        audience=content["aud"],
    )


def check_shape(text: object) -> None:
    """Raise `TokenInvalid` unless it looks like a token; that says nothing of its worth."""
    _parts(text)


def _parts(text: object) -> tuple[str, str]:
    """Content and signature, still encoded."""
    is_short = isinstance(text, str) and len(text) <= MOST_CHARACTERS
    found = _SHAPE.fullmatch(text) if isinstance(text, str) and is_short else None
    if found is None:
        raise _malformed()
    return found[1], found[2]


def _malformed() -> TokenInvalid:
    return TokenInvalid(
        "this is no exported token: give the text as export() returned it, all of it"
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes | None:
    """The bytes; None where this is not the one way to write them."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return data if _encode(data) == text else None


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _load(payload: bytes) -> dict[str, Any] | None:
    """The content; None where it is not as `sign` writes it, to the letter.

    A field that is there twice, a space or 1.0 for 1 would be written in another way.
    """
    try:
        content: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not _is_content(content):
        return None
    return content if _canonical(content) == payload else None


def _is_content(content: Any) -> bool:
    """Whether these are the fields of a token, and none else, with values that they may have."""
    if not isinstance(content, dict):
        return False
    known = cast("dict[object, object]", content)
    return known.keys() == _FIELDS.keys() and all(
        is_valid(known[field]) for field, is_valid in _FIELDS.items()
    )


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _or_null(is_valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or is_valid(value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_AMOUNT


_FIELDS: dict[str, Callable[[object], bool]] = {
    "allowance": _or_null(_is_count),
    "aud": _or_null(_matches(AUDIENCE)),
    "dim": _or_null(_matches(USER_DIM)),
    "exp": _is_count,
    "expected_use": _is_count,
    "jti": _matches(_ID),
    "kid": _matches(NAME),
    "kind": KINDS.__contains__,
    "resource": _matches(NAME),
}
