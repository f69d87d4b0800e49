"""Anthropic's protocol: messages. Cached tokens come on top of `input_tokens`."""

import json
from collections.abc import Iterator
from typing import Any

from .behaviour import ANSWER, CACHED, REASONING, WORDS, Behaviour

Event = tuple[str | None, Any]


def _usage(how: Behaviour, completion: int) -> dict[str, Any] | None:
    return how.usage({
        "input_tokens": how.tokens.prompt - CACHED,
        "cache_read_input_tokens": CACHED,
        "cache_creation_input_tokens": 0,
        "output_tokens": completion,
        "output_tokens_details": {"thinking_tokens": REASONING if completion > 1 else 0},
    })  # fmt: skip


def _block(how: Behaviour, number: int) -> dict[str, Any]:
    if how.tool is None:
        return {"type": "text", "text": ANSWER}
    name, arguments = how.tool
    return {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": arguments}


def message(how: Behaviour, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": how.model,
        "content": [_block(how, number)],
        "stop_reason": "end_turn" if how.tool is None else "tool_use",
        "stop_sequence": None,
        "usage": _usage(how, how.tokens.completion) or {},
    }


def message_stream(how: Behaviour, number: int) -> Iterator[Event]:
    def event(kind: str, **fields: Any) -> Event:
        return kind, {"type": kind, **fields}

    whole, block = message(how, number), _block(how, number)
    start = whole | {"content": [], "stop_reason": None, "usage": _usage(how, 1) or {}}
    yield event("message_start", message=start)
    empty: dict[str, Any] = {"text": ""} if how.tool is None else {"input": {}}
    yield event("content_block_start", index=0, content_block=block | empty)
    if how.tool is None:
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": word} for word in WORDS]
    else:
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(how.tool[1])}]
    for delta in deltas:
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    usage = _usage(how, how.tokens.completion) or {}
    yield event("message_delta", delta=ending, usage=usage)
    yield event("message_stop")
