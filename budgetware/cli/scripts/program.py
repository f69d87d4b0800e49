"""A script, a module, a folder or an archive, run as `python` would run it.

Not here: under what budget.
"""

import builtins
import io
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, Literal

from ..failures import MISUSED, Failure

MODULE_OPTION, STDIN = "-m", "-"
INTERRUPTED = 130
_PACKAGE = str(Path(__file__).parent.parent.parent)
_MAIN = ("__main__.py", "__main__.pyc")
Kind = Literal["file", "module", "folder", "stdin"]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a file, a module by its name, a folder or archive, or `-`; its arguments."""

    name: str
    arguments: Sequence[str]
    kind: Kind

    @property
    def shown(self) -> str:
        """What it is called in a receipt."""
        return Path(self.name).name if self.kind in ("file", "folder") else self.name

    def enter(self) -> None:
        """Make this the process of the program: its arguments, and where it imports from.

        Raises:
            Failure: there is no such module.
        """
        sys.excepthook = sys.__excepthook__
        sys.argv[:] = [self.name, *self.arguments]
        if self.kind == "folder":  # that is where its __main__ is, so it is there however safe
            sys.path[: 0 if sys.flags.safe_path else 1] = [str(Path(self.name).absolute())]
        elif not sys.flags.safe_path:
            sys.path[:1] = [self._folder()]
        if self.kind == "module":
            _check_module(self.name)

    def _folder(self) -> str:
        if self.kind == "stdin":
            return ""
        return str(Path.cwd() if self.kind == "module" else Path(self.name).resolve().parent)

    def run(self) -> None:
        """Run it as `__main__`; raises whatever it raises."""
        main = ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = main
        code = self._code(main)
        exec(code, main.__dict__)  # noqa: S102 - this is what was asked for

    def _code(self, main: ModuleType) -> CodeType:
        if self.kind == "stdin":
            code: CodeType = compile(sys.stdin.read(), "<stdin>", "exec", dont_inherit=True)
            return code
        if self.kind == "file":
            return self._file(main)
        if self.kind == "module":
            return self._module(main, _spec_of(self.name))
        spec = PathFinder.find_spec("__main__", [sys.path[0]])
        return self._module(main, _runnable(spec, self.name))

    def _file(self, main: ModuleType) -> CodeType:
        path = str(Path(self.name).absolute())
        main.__file__ = path
        main.__loader__ = SourceFileLoader("__main__", path)
        with io.open_code(path) as file:
            source = file.read()
        code: CodeType = compile(source, path, "exec", dont_inherit=True)
        return code

    def _module(self, main: ModuleType, spec: ModuleSpec) -> CodeType:
        loader: Any = spec.loader
        main.__spec__, main.__loader__ = spec, loader
        main.__package__, main.__file__ = spec.parent, spec.origin
        main.__dict__["__cached__"] = spec.cached
        if self.kind == "module":
            sys.argv[0] = spec.origin or self.name
        code: CodeType | None = loader.get_code(spec.name)
        if code is None:
            raise ImportError(f"No code object available for {spec.name}")
        return code


def program_of(command: Sequence[str]) -> Program | None:
    """The Python program that a command is, if it is one.

    Raises:
        Failure: it is to be a module, and does not say which; or a folder without `__main__.py`.
    """
    first, *rest = command
    if first == MODULE_OPTION:
        if not rest:
            raise Failure("-m: give the name of a module", MISUSED)
        return Program(rest[0], rest[1:], "module")
    if first == STDIN:
        return Program(first, rest, "stdin")
    if Path(first).suffix == ".py" and Path(first).is_file():
        return Program(first, rest, "file")
    if _has_main(Path(first)):
        return Program(first, rest, "folder")
    if Path(first).is_dir():
        raise Failure(f"cannot run {first}: it is a folder that has no __main__.py", MISUSED)
    if Path(first).suffix == ".py" and shutil.which(first) is None:
        raise Failure(f"cannot start {first}: No such file", MISUSED)
    return None


def program_of_python(command: Sequence[str]) -> Program | None:
    """The program of a command such as `python x.py`, where that is the Python that runs this."""
    first, *rest = command
    if not rest or not is_this_python(first):
        return None
    if rest[0] in (MODULE_OPTION, STDIN) or _has_main(Path(rest[0])):
        return program_of(rest)
    return Program(rest[0], rest[1:], "file") if Path(rest[0]).is_file() else None


def is_this_python(command: str) -> bool:
    """Whether a command starts the Python that runs this, with the packages that it has."""
    found = shutil.which(command)
    if found is None or not sys.executable:
        return False
    ours, theirs = Path(sys.executable), Path(found)
    in_one_folder = ours.parent.resolve() == theirs.parent.resolve()
    return in_one_folder and ours.resolve() == theirs.resolve()


def _has_main(path: Path) -> bool:
    """Whether it is a folder or an archive that Python runs."""
    if path.is_dir():
        return any((path / name).is_file() for name in _MAIN)
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return not {*_MAIN}.isdisjoint(archive.namelist())
    return False


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
    return _runnable(spec, name)


def _runnable(spec: ModuleSpec | None, name: str) -> ModuleSpec:
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
