"""Objects whose methods hold: each becomes one of a subclass of its own class, by the same name.

So `isinstance` stays true, copies hold as well, and what frameworks ask of its class is answered.
Not here: what the methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import new_class
from typing import Any, TypeVar

__all__ = ["Maker", "Method", "is_subclassed", "subclass", "told"]

T = TypeVar("T")

Method = Callable[..., Any]
Maker = Callable[[Method], Method]


def is_subclassed(thing: object) -> bool:
    """Say whether it was given to `subclass` before, or copied from one that was."""
    return any("__budgetware__" in vars(kind) for kind in type(thing).__mro__)


def told(thing: object, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `subclass` was told of a thing before, and what is told now, which goes first."""
    before: Mapping[str, Any] = getattr(type(thing), "__budgetware__", {})
    return {**before, **more}


def subclass(thing: T, methods: Mapping[str, Maker], about: Mapping[str, Any] | None = None) -> T:
    """Replace methods of one object, those that its class has; each is made of the one it had.

    The replacements carry the marks of the originals, so that a framework that wraps the methods
    of its subclasses takes them as wrapped. Once only; where what it is told `about` them is not
    what it was before, the new ones are in place of the old.
    """
    kind: type[Any] = type(thing)
    if is_subclassed(thing):
        if about is None or told(thing, {}) == about or "__budgetware__" not in vars(kind):
            return thing
        kind = kind.__mro__[1]
    names: dict[str, Any] = {"__module__": kind.__module__, "__budgetware__": about or {}}
    for name, make in methods.items():
        original = getattr(kind, name, None)
        if original is not None:
            names[name] = wraps(original)(make(original))
    names["__qualname__"] = f"{kind.__qualname__} (budgetware)"
    made: Any = new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(names))
    made.__qualname__ = kind.__qualname__  # not before: frameworks keep their classes by it
    thing.__class__ = made
    return thing
