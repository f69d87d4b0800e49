"""How many tokens a call may use, before anybody has counted. Not here: what it did use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

BYTES_PER_TOKEN: Final = 3
"""English has some 4.2 bytes a token, code 3.3, Chinese 3 or more: this errs on the dear side."""
MEDIA_TOKENS: Final = 1_600
"""What an image, a sound or a file is taken for: about an image of a million pixels."""
DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""What a call that names no maximum is taken to write."""
_MESSAGE_TOKENS: Final = 4
_MAX_DEPTH: Final = 24
_MEDIA_KEYS: Final = frozenset({
    "image_url", "image", "input_image", "input_audio", "audio", "inline_data", "inlineData", "input_file",
    "file", "file_data", "fileData", "document", "source", "data", "blob",
})  # fmt: skip


def estimate_tokens(payload: object) -> int:
    """Guess how many tokens a prompt has: bytes of text by 3, 1,600 for each image, sound or file.

    Args:
        payload: what is sent: text, messages, tools, as JSON-like values or as objects of an SDK.
    """
    return -(-_size(payload, 0) // BYTES_PER_TOKEN)


def _size(value: Any, depth: int) -> int:  # noqa: PLR0911 - one line per kind of value
    """Its size, in bytes of text."""
    if value is None or depth > _MAX_DEPTH:
        return 0
    if isinstance(value, str):
        return (
            MEDIA_TOKENS * BYTES_PER_TOKEN
            if value.startswith("data:")
            else len(value.encode(errors="replace"))
        )
    if isinstance(value, bool | int | float):
        return BYTES_PER_TOKEN
    if isinstance(value, bytes | bytearray | memoryview):
        return MEDIA_TOKENS * BYTES_PER_TOKEN
    if isinstance(value, Mapping):
        return _mapping_size(cast("Mapping[Any, Any]", value), depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("list[Any]", value)
        return sum(_size(item, depth + 1) for item in items)
    attributes = getattr(value, "__dict__", None)
    if attributes:
        return _mapping_size(attributes, depth)
    return len(str(value).encode(errors="replace"))


def _mapping_size(value: Mapping[Any, Any], depth: int) -> int:
    size = _MESSAGE_TOKENS * BYTES_PER_TOKEN if "role" in value else 0
    for key, item in value.items():
        if item is None:
            continue
        if key in _MEDIA_KEYS and not isinstance(item, list | tuple):
            size += _media_size(item, depth)
        else:
            size += len(str(key)) + _size(item, depth + 1)
    return size


def _media_size(item: Any, depth: int) -> int:
    """Of what may be an image or a file: its texts, if it has no more of them than that."""
    return min(_size(item, depth + 1), MEDIA_TOKENS * BYTES_PER_TOKEN)
