"""Doing something with a module once a program has imported it, which may be never.

Not here: what.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from threading import Lock
from types import ModuleType
from typing import Any

Call = Callable[[ModuleType], object]
_lock = Lock()
_calls: dict[str, list[Call]] = {}
_lasting: set[Call] = set()


def when_imported(name: str, call: Call, *, always: bool = False) -> Callable[[], None]:
    """Call back with a module when it is first imported; at once, if it is there already.

    With `always`, do so each time that it is imported anew, as after it was taken out of
    `sys.modules`.

    What `call` raises goes to whoever imports the module, which is then not there: a program
    cannot go on without what is done here.

    Returns:
        What takes `call` back, if it was not called yet, or is to be called always.
    """
    module = sys.modules.get(name)
    if module is not None:
        call(module)
        if not always:
            return lambda: None
    with _lock:
        if always:
            _lasting.add(call)
        _calls.setdefault(name, []).append(call)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    return lambda: _forget(name, call)


def _forget(name: str, call: Call) -> None:
    with _lock:
        _lasting.discard(call)
        left = [other for other in _calls.get(name, ()) if other is not call]
        if left:
            _calls[name] = left
        else:
            _calls.pop(name, None)
        _stop_if_idle()


def _take(name: str) -> Sequence[Call]:
    with _lock:
        found = _calls.pop(name, [])
        lasting = [call for call in found if call in _lasting]
        if lasting:
            _calls[name] = lasting
        _stop_if_idle()
        return found


def _stop_if_idle() -> None:
    if not _calls and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


class _Finder(MetaPathFinder):
    """Finds what the other finders find, and has its loader call back."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if fullname not in _calls:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(Loader):
    """Stands in for a loader until it has loaded."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for call in _take(module.__name__):
            call(module)


_finder = _Finder()
