"""A script or a module, run as `python script.py` and `python -m module` would.

Not here: under what budget.
"""

import builtins
import io
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from ..failures import MISUSED, Failure

MODULE_OPTION = "-m"
INTERRUPTED = 130
_PACKAGE = str(Path(__file__).parent.parent.parent)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a file, or a module by its name; and its arguments."""

    name: str
    arguments: Sequence[str]
    is_module: bool

    @property
    def shown(self) -> str:
        """What it is called in a receipt."""
        return self.name if self.is_module else Path(self.name).name

    def enter(self) -> None:
        """Make this the process of the program: its arguments, and where it imports from.

        Raises:
            Failure: there is no such module.
        """
        sys.excepthook = sys.__excepthook__
        sys.argv[:] = [self.name, *self.arguments]
        if not sys.flags.safe_path:
            folder = Path.cwd() if self.is_module else Path(self.name).resolve().parent
            sys.path[:1] = [str(folder)]
        if self.is_module:
            _check_module(self.name)

    def run(self) -> None:
        """Run it as `__main__`; raises whatever it raises."""
        main = ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = main
        code = self._module(main) if self.is_module else self._file(main)
        exec(code, main.__dict__)  # noqa: S102 - this is what was asked for

    def _file(self, main: ModuleType) -> CodeType:
        path = str(Path(self.name).absolute())
        main.__file__ = path
        main.__loader__ = SourceFileLoader("__main__", path)
        with io.open_code(path) as file:
            source = file.read()
        code: CodeType = compile(source, path, "exec", dont_inherit=True)
        return code

    def _module(self, main: ModuleType) -> CodeType:
        spec = _spec_of(self.name)
        loader: Any = spec.loader
        main.__spec__, main.__loader__ = spec, loader
        main.__package__, main.__file__ = spec.parent, spec.origin
        main.__dict__["__cached__"] = spec.cached
        sys.argv[0] = spec.origin or self.name
        code: CodeType | None = loader.get_code(spec.name)
        if code is None:
            raise ImportError(f"No code object available for {spec.name}")
        return code


def program_of(command: Sequence[str]) -> Program | None:
    """The Python program that a command is, if it is one.

    Raises:
        Failure: it is to be a module, and does not say which.
    """
    first, *rest = command
    if first == MODULE_OPTION:
        if not rest:
            raise Failure("-m: give the name of a module", MISUSED)
        return Program(rest[0], rest[1:], is_module=True)
    path = Path(first)
    is_script = path.suffix == ".py" and path.is_file()
    return Program(first, rest, is_module=False) if is_script else None


def _check_module(name: str) -> None:
    with suppress(ImportError, ValueError, AttributeError):
        if find_spec(name.partition(".")[0]) is not None:
            return
    raise Failure(f"cannot run -m {name}: there is no such module", MISUSED)


def _spec_of(name: str) -> ModuleSpec:
    """Of a module, or of the `__main__` of a package."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}, or it cannot be run", name=name)
    return spec


def exit_code_of(error: BaseException, *, is_shown: Callable[[BaseException], bool]) -> int:
    """What Python would exit with after this, once it has printed what it would print."""
    if isinstance(error, SystemExit):
        return _code_of(error.code)
    if is_shown(error):
        trace = _from_program(error.__traceback__)
        error.__traceback__ = trace
        sys.excepthook(type(error), error, trace)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _code_of(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _from_program(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that have started the program."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace


def wait_for_threads() -> None:
    """Wait for the threads that Python waits for before it exits; those of executors end, too."""
    shutdown: Callable[[], object] | None = getattr(threading, "_shutdown", None)
    if shutdown is not None:
        shutdown()
