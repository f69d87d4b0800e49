"""Objects whose methods hold: each becomes one of a subclass of its own class, by the same name.

So `isinstance` stays true, copies hold as well, and what frameworks ask of its class is answered.
Not here: what the methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import new_class
from typing import Any, TypeVar

T = TypeVar("T")

Method = Callable[..., Any]
Maker = Callable[[Method], Method]


def is_subclassed(thing: object) -> bool:
    """Say whether it was given to `subclass` before, or copied from one that was."""
    return any("__budgetware__" in vars(kind) for kind in type(thing).__mro__)


def subclass(thing: T, methods: Mapping[str, Maker]) -> T:
    """Replace methods of one object, those that its class has; each is made of the one it had.

    The replacements carry the marks of the originals, so that a framework that wraps the methods
    of its subclasses takes them as wrapped. Once only.
    """
    kind: type[Any] = type(thing)
    if is_subclassed(thing):
        return thing
    names: dict[str, Any] = {"__module__": kind.__module__, "__budgetware__": True}
    for name, make in methods.items():
        original = getattr(kind, name, None)
        if original is not None:
            names[name] = wraps(original)(make(original))
    names["__qualname__"] = f"{kind.__qualname__} (budgetware)"
    made: Any = new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(names))
    made.__qualname__ = kind.__qualname__  # not before: frameworks keep their classes by it
    thing.__class__ = made
    return thing
