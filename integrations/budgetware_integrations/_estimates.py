"""How many tokens a call may use, before anybody has counted. Not here: what it did use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

BYTES_PER_TOKEN: Final = 3
"""English has some 4.2 bytes a token, code 3.3, Chinese 3 or more: this errs on the dear side."""
MEDIA_TOKENS: Final = 1_600
"""What an image, a sound or a file is taken for: about an image of a million pixels."""
_MEDIA_BYTES: Final = MEDIA_TOKENS * BYTES_PER_TOKEN
DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""What a call that names no maximum is taken to write."""
_MESSAGE_TOKENS: Final = 4
_MAX_DEPTH: Final = 24
_MEDIA_TYPES: Final = frozenset({
    "image_url", "image", "input_image", "image_file", "input_audio", "audio", "audio_url", "media",
    "input_file", "file", "document", "video", "video_url", "input_video", "computer_screenshot",
})  # fmt: skip
_MEDIA_KEYS: Final = frozenset({
    "image_url", "input_audio", "inline_data", "inlineData", "file_data", "fileData",
})  # fmt: skip
_DATA_URL: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")


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
        return _text_size(value)
    if isinstance(value, bool | int | float):
        return BYTES_PER_TOKEN
    if isinstance(value, bytes | bytearray | memoryview):
        return _MEDIA_BYTES
    if isinstance(value, Mapping):
        fields: Mapping[Any, Any] = value
        return _mapping_size(fields, depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("list[Any]", value)
        return sum(_size(item, depth + 1) for item in items)
    attributes = None if isinstance(value, type) else getattr(value, "__dict__", None)
    if attributes:
        return _mapping_size(attributes, depth)
    return len(str(value).encode(errors="replace"))


def _text_size(text: str) -> int:
    if text.startswith("data:") and _DATA_URL.match(text):
        return _MEDIA_BYTES
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _mapping_size(value: Mapping[Any, Any], depth: int) -> int:
    kind = value.get("type")
    if isinstance(kind, str) and kind in _MEDIA_TYPES and len(value) > 1:
        return _MEDIA_BYTES + _text_of_document(value.get("source"), depth)
    size = _MESSAGE_TOKENS * BYTES_PER_TOKEN if "role" in value else 0
    for key, item in value.items():
        if item is None:
            continue
        if key in _MEDIA_KEYS:
            size += _MEDIA_BYTES
        else:
            size += len(str(key)) + _size(item, depth + 1)
    return size


def _text_of_document(source: Any, depth: int) -> int:
    """Of a document that is sent as text, or as blocks of it."""
    if isinstance(source, Mapping) and source.get("type") in {"text", "content"}:
        texts: Any = source.get("data") or source.get("content")
        return _size(texts, depth + 1)
    return 0
