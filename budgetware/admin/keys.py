"""Who may ask: keys by name, what each may do, and for whom. No secret is kept, shown or logged.

Not here: what is asked (`operations`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ..errors import ConfigurationError
from ..kernel.dims import NAME
from ..private_files import read_private

KEYS_VARIABLE = "BUDGETWARE_ADMIN_KEYS"
LEAST_CHARACTERS = 32
MOST_CHARACTERS = 1_024
MOST_KEYS = 1_000
_FIELDS = ("secret", "access", "principal")
_HOW = 'make one: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: for people.
        secret: what is sent as `Authorization: Bearer …`: 32 characters or more, without spaces.
        access: `"read"`, or `"write"`, which reads as well.
        principal: whom it is for: it sees that principal and those below it, and changes quotas of
            those below it alone. None: everything.

    Raises:
        ConfigurationError: something of it cannot be.
    """

    name: str
    secret: str = field(repr=False)
    access: Literal["read", "write"] = "read"
    principal: str | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ConfigurationError(
                "the name of a key is not valid: use 1 to 128 of A-Z a-z 0-9 . _ : @ -"
            )
        problem = _problem(self)
        if problem is not None:
            raise ConfigurationError(f"key {self.name!r}: {problem}")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _problem(key: Key) -> str | None:
    """What is wrong with a key; what may be a secret is not repeated."""
    secret: Any = key.secret
    if not isinstance(secret, str) or not secret.isascii() or not secret.isprintable():
        return f"its secret is no text of printable ASCII; {_HOW}"
    if " " in secret:
        return f"its secret has spaces; {_HOW}"
    if not LEAST_CHARACTERS <= len(secret) <= MOST_CHARACTERS:
        return (
            f"its secret has {len(secret)} characters: give {LEAST_CHARACTERS} to "
            f"{MOST_CHARACTERS}; {_HOW}"
        )
    if key.access not in ("read", "write"):
        return 'its access is "read" or "write"'
    if key.principal is not None and not _is_name(key.principal):
        return "its principal is no name"
    return None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        key: the name of the key; None where there are none.
        can_write: whether it may change anything.
        principal: it sees this one, and those below it; None: everything.
    """

    key: str | None
    can_write: bool
    principal: str | None = None


class Keys:
    """The keys of an application: digests of them.

    Raises:
        ConfigurationError: there is none, a name or a secret is there twice.
    """

    __slots__ = ("_known",)

    def __init__(self, keys: Iterable[Key]) -> None:
        found = list(keys)
        if not 1 <= len(found) <= MOST_KEYS:
            raise ConfigurationError(
                f"there are {len(found)} keys: give 1 to {MOST_KEYS}, or leave them out"
            )
        names = {key.name for key in found}
        digests = [_digest(key.secret.encode()) for key in found]
        if len(names) < len(found) or len(set(digests)) < len(found):
            raise ConfigurationError("two keys have the same name, or the same secret")
        self._known = tuple(
            (digest, Caller(key.name, key.access == "write", key.principal))
            for digest, key in zip(digests, found, strict=True)
        )

    def caller(self, secret: bytes) -> Caller | None:
        """Whose secret it is; takes as long whether it is one or not."""
        given = _digest(secret)
        found: Caller | None = None
        for digest, caller in self._known:
            if hmac.compare_digest(digest, given):
                found = caller
        return found

    def __repr__(self) -> str:
        return f"<Keys {' '.join(str(caller.key) for _digest, caller in self._known)}>"

    def __reduce__(self) -> Any:
        raise TypeError("keys cannot be pickled or copied: they stay in this process")


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def find_keys(given: Keys | Iterable[Key] | str | os.PathLike[str] | None) -> Keys | None:
    """The keys given, or of the file that is named, else of the file the environment names."""
    if given is None:
        named = os.environ.get(KEYS_VARIABLE)
        return read_admin_keys(named, KEYS_VARIABLE) if named else None
    if isinstance(given, str | os.PathLike):
        return read_admin_keys(given)
    return given if isinstance(given, Keys) else Keys(given)


def read_admin_keys(path: str | os.PathLike[str], what: str = "keys") -> Keys:
    """Read a TOML file of keys, which nobody but its owner may read or write.

        [keys.ops]
        secret = "…"           # 32 characters or more
        access = "write"       # or "read", the default
        principal = "alice"    # optional: sees alice and those below alone

    Args:
        what: the setting that named the file, for messages.

    Raises:
        ConfigurationError: it cannot be read, or others may, or something in it is wrong.
    """
    file = os.fspath(path)
    content = read_private(file, what)
    try:
        table = tomllib.loads(content.decode())
    except ValueError:
        table = None  # the error may show what was read: it is not passed on
    if table is None:
        raise ConfigurationError(f"{what}: {file} is no TOML in UTF-8")
    try:
        return Keys(_parse(table))
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: {file}: {error}") from None


def _parse(table: Mapping[str, object]) -> list[Key]:
    tables = table.get("keys")
    if set(table) != {"keys"} or not isinstance(tables, dict):
        raise ConfigurationError("write tables [keys.NAME], and nothing else")
    found = cast("dict[str, object]", tables)
    return [_parse_one(name, fields) for name, fields in found.items()]


def _parse_one(name: str, given: object) -> Key:
    shown = repr(name) if _is_name(name) else "of a name that is not valid"
    if not isinstance(given, dict):
        raise ConfigurationError(f"key {shown} is no table: write [keys.NAME]")
    fields = cast("dict[str, Any]", given)
    if set(fields) - set(_FIELDS):
        raise ConfigurationError(f"key {shown} has other fields than {', '.join(_FIELDS)}")
    if "secret" not in fields:
        raise ConfigurationError(f"key {shown} has no secret; {_HOW}")
    return Key(name, **fields)
