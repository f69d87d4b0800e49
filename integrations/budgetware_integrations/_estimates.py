"""How many tokens a call may use, before anybody has counted. Not here: what it did use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

BYTES_PER_TOKEN: Final = 3
"""English has some 4.2 bytes a token, code 3.3, Chinese 3 or more: this errs on the dear side."""
MEDIA_TOKENS: Final = 1_600
"""What a picture is taken for, about one of a million pixels; and the least, for other media, which
is all that is held for those that are only named, by a URL or an id."""
DOCUMENT_BYTES_PER_TOKEN: Final = 10
"""Of a PDF and the like that is sent inline. A page is read as 1,500 to 3,000 tokens of text and,
by some providers, a picture as well; it mostly has 30 to 100 kB."""
RECORDING_BYTES_PER_TOKEN: Final = 100
"""Of sound and video that is sent inline. Gemini, the dearest, reads 32 tokens from a second of
sound and some 300 from one of video; of speech that has 4 kB or more, of small video 30 kB."""
MOST_MEDIA_TOKENS: Final = 1_000_000
"""One of them is held at no more: no larger prompt is read."""
_MEDIA_BYTES: Final = MEDIA_TOKENS * BYTES_PER_TOKEN
DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""What a call that names no maximum is taken to write."""
_MESSAGE_TOKENS: Final = 4
_MAX_DEPTH: Final = 24
_MEDIA_TYPES: Final = {
    "image_url": "image", "image": "image", "input_image": "image", "image_file": "image",
    "computer_screenshot": "image",
    "input_audio": "audio", "audio": "audio", "audio_url": "audio",
    "video": "video", "video_url": "video", "input_video": "video",
    "media": "", "input_file": "", "file": "", "document": "",
}  # fmt: skip
_MEDIA_KEYS: Final = {
    "image_url": "image", "input_audio": "audio",
    "inline_data": "", "inlineData": "", "file_data": "", "fileData": "",
}  # fmt: skip
_KEYS_WITH_SOURCE: Final = frozenset({"image", "audio", "video", "document"})
_MIME_KEYS: Final = ("mimeType", "mime_type", "media_type")
_PAYLOAD_KEYS: Final = frozenset({"data", "base64", "file_data", "bytes"})
_BYTES_PER_TOKEN_OF: Final = {
    "audio": RECORDING_BYTES_PER_TOKEN,
    "video": RECORDING_BYTES_PER_TOKEN,
    "text": BYTES_PER_TOKEN,
}
_DATA_URL: Final = re.compile(r"data:([\w.+-]+)/[\w.+-]+[;,]")
_MAX_MEDIA_DEPTH: Final = 4


def estimate_tokens(payload: object) -> int:
    """Guess how many tokens a prompt has: bytes of text by 3, 1,600 for each picture.

    Documents that are sent inline count by their size, a token for 10 bytes, sound and video a
    token for 100, 1,600 at least; those that are only named count 1,600.

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
        return _media_size(text, "")
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _mapping_size(value: Mapping[Any, Any], depth: int) -> int:
    kind = value.get("type")
    if isinstance(kind, str) and kind in _MEDIA_TYPES and len(value) > 1:
        text = _text_of_document(value.get("source"), depth)
        return _MEDIA_BYTES + text if text else _media_size(value, _MEDIA_TYPES[kind])
    size = _MESSAGE_TOKENS * BYTES_PER_TOKEN if "role" in value else 0
    for key, item in value.items():
        if item is None:
            continue
        if key in _MEDIA_KEYS:
            size += _media_size(item, _MEDIA_KEYS[key])
        elif key in _KEYS_WITH_SOURCE and isinstance(item, Mapping) and "source" in item:
            size += _media_size(item, key)
        else:
            size += len(str(key)) + _size(item, depth + 1)
    return size


def _text_of_document(source: Any, depth: int) -> int:
    """Of a document that is sent as text, or as blocks of it."""
    if isinstance(source, Mapping) and source.get("type") in {"text", "content"}:
        texts: Any = source.get("data") or source.get("content")
        return _size(texts, depth + 1)
    return 0


def _media_size(value: Any, kind: str) -> int:
    """The size, in bytes of text, of what holds one medium; `kind` where its place tells it."""
    found, sent = _inline(value, "data", 0)
    kind = found or kind
    if kind == "image":
        return _MEDIA_BYTES
    tokens = sent // _BYTES_PER_TOKEN_OF.get(kind, DOCUMENT_BYTES_PER_TOKEN)
    return min(max(tokens, MEDIA_TOKENS), MOST_MEDIA_TOKENS) * BYTES_PER_TOKEN


def _inline(value: Any, key: object, depth: int) -> tuple[str, int]:
    """What a medium is, as `image` by its MIME type, and how many bytes of it are sent."""
    if isinstance(value, str):
        url = _DATA_URL.match(value)
        is_payload = url is not None or key in _PAYLOAD_KEYS
        return url[1] if url else "", len(value) * 3 // 4 if is_payload else 0
    if isinstance(value, bytes | bytearray | memoryview):
        return "", len(value)
    if not isinstance(value, Mapping):
        value = getattr(value, "__dict__", None)
    if not isinstance(value, Mapping) or depth > _MAX_MEDIA_DEPTH:
        return "", 0
    fields: Mapping[Any, Any] = value
    parts = [_inline(item, name, depth + 1) for name, item in fields.items()]
    mimes = [fields[name] for name in _MIME_KEYS if isinstance(fields.get(name), str)]
    kinds = [mime.partition("/")[0] for mime in mimes] + [kind for kind, _ in parts if kind]
    return kinds[0] if kinds else "", sum(sent for _, sent in parts)
