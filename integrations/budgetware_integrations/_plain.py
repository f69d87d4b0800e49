"""What an SDK was given, as the plain JSON values it sends. Not here: what is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

_NOT_GIVEN: Final = frozenset({"NotGiven", "Omit"})
_MAX_DEPTH: Final = 64


def plain(value: Any, depth: int = 0) -> Any:
    """Return it with models turned into mappings, without what stands for "not given".

    What is neither a model nor a mapping nor a list is left as it is, and so is what lies too deep.
    """
    if depth > _MAX_DEPTH or isinstance(value, str | bytes):
        return value
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", exclude_unset=True, warnings=False)
    if isinstance(value, Mapping):
        fields: Mapping[Any, Any] = value
        return {
            key: plain(item, depth + 1) for key, item in fields.items() if not _is_not_given(item)
        }
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return [plain(item, depth + 1) for item in items if not _is_not_given(item)]
    return value


def _is_not_given(value: object) -> bool:
    return type(value).__name__ in _NOT_GIVEN
