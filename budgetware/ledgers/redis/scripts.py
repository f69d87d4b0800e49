"""The steps of the ledger in Lua, and how they are called. Not here: what they answer (`rows`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

PARTS = {
    name: ("common", name) for name in ("open", "sync", "define", "add", "delete", "spend")
}  # the others need none of it


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the beginnings of the commands that run it."""

    text: bytes
    evalsha: bytes
    eval: bytes

    def command(self, keys: list[bytes], arguments: Iterable[bytes], *, by_text: bool) -> bytes:
        """Pack a call of it, as the server reads it."""
        rest = [packed(b"%d" % len(keys)), *map(packed, keys), *map(packed, arguments)]
        return self.packed(rest, len(rest), by_text=by_text)

    def packed(self, rest: list[bytes], count: int, *, by_text: bool) -> bytes:
        """Pack a call of it, of which all but the script is packed: so many parts."""
        return b"*%d\r\n%b%b" % (count + 2, self.eval if by_text else self.evalsha, b"".join(rest))


def packed(text: bytes) -> bytes:
    """One part of a command."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def command(*parts: bytes) -> bytes:
    """A command of the server."""
    return b"*%d\r\n%b" % (len(parts), b"".join(map(packed, parts)))


@cache
def script(name: str) -> Script:
    """Read the script of a step."""
    folder = files(__name__.rpartition(".")[0])
    text = "\n".join(
        folder.joinpath(f"{part}.lua").read_text(encoding="utf-8")
        for part in PARTS.get(name, (name,))
    ).encode()
    sha = sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(
        text, packed(b"EVALSHA") + packed(sha), packed(b"EVAL") + packed(text)
    )  # fmt: skip
