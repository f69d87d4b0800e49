"""The keys that sign exported quota tokens, and the file they may come from.

Not here: what is signed (`token_texts`). No key is ever part of a message or a repr.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigurationError
from .kernel.dims import NAME
from .private_files import read_private

KEYS_VARIABLE = "BUDGETWARE_TOKEN_KEYS"
LEAST_BYTES = 32
MOST_KEYS = 16
_HOW = 'a new one: python3 -c "import secrets; print(secrets.token_hex(32))"'
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


class TokenKeys:
    """Secrets by name. The first one signs; a text signed with any of them is accepted.

    To rotate, put a new one first, and drop the old one when what it signed has expired: after
    30 days at the latest.

    Raises:
        ConfigurationError: a key is no bytes, too short or there twice; a name is not valid.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not isinstance(keys, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"token_keys is of type {type(keys).__name__}: give keys by name, as in "
                'token_keys={"k1": secret}, the one that signs first'
            )
        self._keys = dict(keys)
        if not 1 <= len(self._keys) <= MOST_KEYS:
            raise ConfigurationError(
                f"token_keys has {len(self._keys)} keys: give 1 to {MOST_KEYS}, or leave it out"
            )
        named: dict[bytes, str] = {}
        for place, (kid, key) in enumerate(self._keys.items(), start=1):
            _check_key(place, kid, key)
            if key in named:
                raise ConfigurationError(
                    f"token_keys: {named[key]!r} and {kid!r} are the same key; give each its own"
                )
            named[key] = kid

    @property
    def newest(self) -> str:
        """The name of the key that signs: the first one."""
        return next(iter(self._keys))

    def mac(self, kid: str, message: bytes) -> bytes:
        """The HMAC-SHA256 of a message by the key of that name."""
        import hmac

        return hmac.digest(self._keys[kid], message, "sha256")

    def signer(self, message: bytes, mac: bytes) -> str | None:
        """The name of the key that made this HMAC of the message; None: none of these did."""
        import hmac

        signers = [kid for kid in self._keys if hmac.compare_digest(self.mac(kid, message), mac)]
        return signers[0] if signers else None

    def __repr__(self) -> str:
        return f"<TokenKeys {' '.join(self._keys)}>"

    def __reduce__(self) -> Any:
        raise TypeError("keys cannot be pickled or copied: they stay in this process")


def _check_key(place: int, kid: object, key: object) -> None:
    """Raise `ConfigurationError`; what may be a key in the wrong place is not repeated."""
    if not isinstance(kid, str) or not NAME.fullmatch(kid):
        raise ConfigurationError(
            f"token_keys: the name of key {place} is not valid: use 1 to 128 of A-Z a-z 0-9 . _ : "
            "@ - as in {'k1': secret}"
        )
    if not isinstance(key, bytes):
        raise ConfigurationError(
            f"token_keys[{kid!r}] is of type {type(key).__name__}: give random bytes, not a "
            "passphrase; one written in hex is bytes.fromhex(text)"
        )
    if len(key) < LEAST_BYTES:
        raise ConfigurationError(
            f"token_keys[{kid!r}] has {len(key)} bytes: a key has at least {LEAST_BYTES}; make "
            f"{_HOW}"
        )


def find_keys(given: Mapping[str, bytes] | None) -> TokenKeys | None:
    """The keys of a service: those given, else those of the file that the environment names.

    Raises:
        ConfigurationError: they are not what they should be.
    """
    if given is not None:
        return TokenKeys(given)
    path = os.environ.get(KEYS_VARIABLE)
    return read_keys(path) if path else None


def read_keys(path: str) -> TokenKeys:
    """Read a file of keys, which nobody but its owner may read or write.

    Each line is `name = key`, with the key in hex, 64 digits or more; the first one signs. Empty
    lines and lines that begin with `#` do not count:

        # made by: openssl rand -hex 32
        k2 = 6d1f...
        k1 = 90ab...

    Raises:
        ConfigurationError: it cannot be read, or others may, or a line is wrong; the message says
            which line, and never what is in it.
    """
    try:
        lines = read_private(path, KEYS_VARIABLE).decode().splitlines()
    except UnicodeDecodeError:
        lines = None  # the error has what was read: it is not passed on
    if lines is None:
        raise ConfigurationError(f"{KEYS_VARIABLE}: {path} is no text in UTF-8")
    return TokenKeys(_parse(path, lines))


def _parse(path: str, lines: Iterable[str]) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        problem = _problem(name, equals, value)
        if problem is None and name in keys:
            problem = "a name is there twice"
        if problem is not None:
            raise ConfigurationError(f"{KEYS_VARIABLE}: {path} line {number}: {problem}")
        keys[name] = bytes.fromhex(value)
    if not keys:
        raise ConfigurationError(
            f"{KEYS_VARIABLE}: {path} has no key: write a line as in k1 = <64 hex digits>; {_HOW}"
        )
    return keys


def _problem(name: str, equals: str, value: str) -> str | None:
    """What is wrong with a line, or None."""
    if not equals:
        return "write name = key"
    if not NAME.fullmatch(name):
        return "the name is not valid: use 1 to 128 of A-Z a-z 0-9 . _ : @ -"
    if not _HEX.fullmatch(value):
        return f"the key is not in hex, two digits a byte; {_HOW}"
    if len(value) < 2 * LEAST_BYTES:
        return (
            f"the key has {len(value) // 2} bytes: a key has at least {LEAST_BYTES}, "
            f"{2 * LEAST_BYTES} hex digits; {_HOW}"
        )
    return None
