"""OpenAI's protocol: chat completions, responses, embeddings."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from .behaviour import ANSWER, CACHED, REASONING, WORDS, Behaviour

Event = tuple[str | None, Any]


def chat_usage(how: Behaviour) -> dict[str, Any] | None:
    return how.usage({
        "prompt_tokens": how.tokens.prompt,
        "completion_tokens": how.tokens.completion,
        "total_tokens": how.tokens.total,
        "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": REASONING},
    })  # fmt: skip


def _tool_calls(how: Behaviour, number: int) -> list[dict[str, Any]]:
    assert how.tool is not None
    name, arguments = how.tool
    called = {"name": name, "arguments": json.dumps(arguments)}
    return [{"index": 0, "id": f"call_{number}", "type": "function", "function": called}]


def chat(how: Behaviour, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
    if how.tool is not None:
        calls = _tool_calls(how, number)
        message = {"role": "assistant", "content": None}
        message["tool_calls"] = [{k: v for k, v in calls[0].items() if k != "index"}]
    reason = "stop" if how.tool is None else "tool_calls"
    choice = {"index": 0, "finish_reason": reason, "message": message}
    answer = {"id": f"chatcmpl-{number}", "created": 1, "model": how.model}
    answer |= {"object": "chat.completion", "choices": [choice]}
    usage = chat_usage(how)
    return answer if usage is None else answer | {"usage": usage}


def chat_stream(how: Behaviour, number: int, body: dict[str, Any]) -> Iterator[Event]:
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    about: dict[str, Any] = {"id": f"chatcmpl-{number}", "created": 1, "model": how.model}
    about |= {"object": "chat.completion.chunk"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return None, about | {"choices": [choice]} | ({"usage": None} if asked else {})

    if how.tool is None:
        yield from (chunk({"role": "assistant", "content": word}) for word in WORDS)
    else:
        yield chunk({"role": "assistant", "tool_calls": _tool_calls(how, number)})
    yield chunk({}, "stop" if how.tool is None else "tool_calls")
    usage = chat_usage(how)
    if asked and usage is not None:
        yield None, about | {"choices": [], "usage": usage}
    yield None, "[DONE]"


def _item(how: Behaviour, number: int) -> dict[str, Any]:
    if how.tool is None:
        text = {"type": "output_text", "text": ANSWER, "annotations": []}
        about = {"type": "message", "id": f"msg_{number}", "role": "assistant"}
        return about | {"status": "completed", "content": [text]}
    name, arguments = how.tool
    about = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}"}
    return about | {"name": name, "arguments": json.dumps(arguments), "status": "completed"}


def _response(how: Behaviour, number: int, status: str, output: list[Any]) -> dict[str, Any]:
    usage = how.usage({
        "input_tokens": how.tokens.prompt,
        "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
        "output_tokens": how.tokens.completion,
        "output_tokens_details": {"reasoning_tokens": REASONING},
        "total_tokens": how.tokens.total,
    })  # fmt: skip
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "model": how.model,
        "status": status,
        "output": output,
        "usage": usage if status == "completed" else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "temperature": 1,
        "top_p": 1,
    }


def response(how: Behaviour, number: int) -> dict[str, Any]:
    return _response(how, number, "completed", [_item(how, number)])


def response_stream(how: Behaviour, number: int) -> Iterator[Event]:
    order = itertools.count()

    def event(kind: str, **fields: Any) -> Event:
        return kind, {"type": kind, "sequence_number": next(order), **fields}

    item = _item(how, number)
    empty: dict[str, Any] = {"content": []} if how.tool is None else {"arguments": ""}
    added = {**item, **empty, "status": "in_progress"}
    yield event("response.created", response=_response(how, number, "in_progress", []))
    yield event("response.output_item.added", output_index=0, item=added)
    if how.tool is None:
        place: dict[str, Any] = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("response.content_part.added", **place, part=part)
        for word in WORDS:
            yield event("response.output_text.delta", **place, delta=word, logprobs=[])
        yield event("response.output_text.done", **place, text=ANSWER, logprobs=[])
    else:
        said: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
        arguments = item["arguments"]
        yield event("response.function_call_arguments.delta", **said, delta=arguments)
        yield event("response.function_call_arguments.done", **said, arguments=arguments)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=_response(how, number, "completed", [item]))


def embeddings(how: Behaviour, body: dict[str, Any]) -> dict[str, Any]:
    texts: Any = body["input"]
    count = len(texts) if isinstance(texts, list) else 1
    tokens = how.tokens.prompt
    usage = how.usage({"prompt_tokens": tokens, "total_tokens": tokens})
    vectors = [{"object": "embedding", "index": i, "embedding": [0.0, 1.0]} for i in range(count)]
    answer: dict[str, Any] = {"object": "list", "model": how.model, "data": vectors}
    return answer if usage is None else answer | {"usage": usage}
