"""What to start and under which limits, checked. Not here: who pays for it (`shares`)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clock import parse_seconds
from ..errors import ConfigurationError, InvalidAmount
from ..formats import parse_bytes
from ..kernel.dims import check_amount, show

Size = int | str
Seconds = float | str
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._:@-]")


@dataclass(frozen=True, slots=True)
class Order:
    """One child to start. Limits that are None were not named."""

    args: tuple[bytes, ...]
    env: dict[bytes, bytes]
    cwd: bytes
    input: bytes | None
    output_bytes: int
    cpu_micros: int | None
    memory: int | None
    wall_seconds: float | None

    @property
    def name(self) -> str:
        """The name of the program, without its folder, as spans may have it."""
        return _UNNAMEABLE.sub("_", Path(os.fsdecode(self.args[0])).name)[:128] or "process"


def check_order(
    command: Sequence[str | os.PathLike[str]],
    *,
    input: bytes | str | None,
    cpu_seconds: Seconds | None,
    memory: Size | None,
    output_bytes: Size,
    wall_seconds: Seconds | None,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
) -> Order:
    """Check what `run` was given.

    Raises:
        ConfigurationError, InvalidAmount: nothing has changed.
    """
    if os.name != "posix":
        raise ConfigurationError(f"process.run: no limits on children are known on {sys.platform}")
    if memory is not None and sys.platform != "linux":
        raise ConfigurationError(f"memory={show(memory)}: a ceiling is kept on Linux only")
    if input is not None and not isinstance(input, bytes | str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"input of type {type(input).__name__}: give bytes or a str")
    micros = None
    if cpu_seconds is not None:
        micros = max(1, round(parse_seconds("cpu_seconds", cpu_seconds) * 1_000_000))
    return Order(
        args=_check_command(command),
        env=_check_env(env),
        cwd=os.fsencode(Path.cwd() if cwd is None else Path(cwd).absolute()),
        input=input.encode() if isinstance(input, str) else input,
        output_bytes=_check_size("output_bytes", output_bytes),
        cpu_micros=micros,
        memory=None if memory is None else _check_memory(memory),
        wall_seconds=None if wall_seconds is None else parse_seconds("wall_seconds", wall_seconds),
    )


def _check_command(command: Any) -> tuple[bytes, ...]:
    if isinstance(command, str | bytes | os.PathLike):
        raise ConfigurationError(
            "command is one text: no shell reads it; give the program and its arguments as a "
            "list, as in run(['git', 'status'])"
        )
    try:
        args = tuple(os.fsencode(arg) for arg in command)
    except TypeError:
        raise ConfigurationError(
            "command: give a list of str: a program and its arguments"
        ) from None
    if not args or not args[0] or any(b"\0" in arg for arg in args):
        raise ConfigurationError("command: name a program; no argument may hold a null character")
    return args


def _check_env(env: Mapping[str, str] | None) -> dict[bytes, bytes]:
    if env is None:
        return dict(os.environb)
    try:
        checked = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    except (AttributeError, TypeError):
        raise ConfigurationError("env: give a mapping of names to texts") from None
    if any(b"=" in name or b"\0" in name + value for name, value in checked.items()):
        raise ConfigurationError("env: no name may hold '=', and nothing a null character")
    return checked


def _check_size(what: str, size: Size) -> int:
    return parse_bytes(size) if isinstance(size, str) else check_amount(what, size)


def _check_memory(memory: Size) -> int:
    checked = _check_size("memory", memory)
    if not checked:
        raise InvalidAmount("memory=0: no program runs without memory; give bytes, or '256MiB'")
    return checked
