"""How providers and frameworks write down what a call used, each turned into disjoint axes.

They are told apart by the names they use, on dicts and objects alike; no SDK is imported. A shape
returns None where none of its totals is there: what is not reported is unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, cast

from .usage_fields import Fields, count, fields, first, text

Axes: TypeAlias = dict[str, int]
Shape: TypeAlias = Callable[[Fields], Axes | None]

AXES: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "server_tool_calls",
)
_OWN_NAMES: Final = frozenset((*AXES, "model", "provider"))
_CHAT: Final = ("prompt_tokens", "completion_tokens")
_INPUT: Final = ("prompt_tokens", "input_tokens", "inputTokens", "input_token_count")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "outputTokens", "output_token_count")
_TOTAL: Final = ("total_tokens", "totalTokens", "total_token_count")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS: Final = (
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
)
_CACHE_READ: Final = ("cache_read_input_tokens", "cacheReadInputTokens")
_CACHE_WRITTEN: Final = ("cache_creation_input_tokens", "cacheWriteInputTokens")
_FLAT_CACHE_READ: Final = (
    *_CACHE_READ,
    "cache_read_tokens",
    "prompt_cache_hit_tokens",
    "cached_prompt_tokens",
    "cache_read_input_token_count",
)
_FLAT_REASONING: Final = (
    "output_reasoning_tokens",
    "reasoning_tokens",
    "reasoning_output_token_count",
)
_PROMPT: Final = ("prompt_token_count", "promptTokenCount", "total_input_tokens")
_CANDIDATES: Final = (
    "candidates_token_count",
    "candidatesTokenCount",
    "response_token_count",
    "responseTokenCount",
    "total_output_tokens",
)
_GEMINI_TOTAL: Final = ("total_token_count", "totalTokenCount", "total_tokens")


def any_shape(usage: Fields) -> Axes | None:
    """Read `usage` in whichever shape its names show."""
    if first(usage, _CHAT) is not None:
        return inclusive(usage)
    if first(usage, (*_PROMPT, *_CANDIDATES)) is not None:
        return gemini(usage)
    if first(usage, (*_INPUT, *_OUTPUT)) is None:
        return inclusive(usage) or gemini(usage)
    if first(usage, _INPUT_DETAILS) is not None:
        return inclusive(usage)
    if first(usage, (*_CACHE_READ, *_CACHE_WRITTEN)) is not None and not _adds_up(usage):
        return additive(usage)
    return _disjoint(usage) if _is_own_dict(usage) else inclusive(usage)


def _adds_up(usage: Fields) -> bool:
    """Say whether there is a total, and it leaves no room for cached tokens on top."""
    total = count(usage, *_TOTAL)
    return total > 0 and total == count(usage, *_INPUT) + count(usage, *_OUTPUT)


def _is_own_dict(usage: Fields) -> bool:
    return isinstance(usage, dict) and set(cast("dict[str, object]", usage)) <= _OWN_NAMES


def _disjoint(usage: Fields) -> Axes:
    return {axis: count(usage, axis) for axis in AXES}


def inclusive(usage: Fields) -> Axes | None:
    """Read cached tokens as part of the input, and reasoning as part of the output.

    OpenAI (chat, Responses, embeddings), LangChain, pydantic-ai, agent-framework and most others.
    """
    if first(usage, (*_INPUT, *_OUTPUT, *_TOTAL)) is None:
        return None
    prompt = count(usage, *_INPUT)
    # Some leave reasoning out of the completion, and only their total has it.
    completion = max(count(usage, *_OUTPUT), count(usage, *_TOTAL) - prompt)
    axes = _inclusive_input(usage, prompt) | _inclusive_output(usage, completion)
    return axes | {"server_tool_calls": _server_tool_calls(usage)}


def _inclusive_input(usage: Fields, prompt: int) -> Axes:
    details = fields(first(usage, _INPUT_DETAILS))
    read = count(details, "cached_tokens", "cache_read") or count(usage, *_FLAT_CACHE_READ)
    written = (
        count(details, "cache_write_tokens", "cache_creation", "cache_creation_tokens")
        # LangChain's name for the parts of cache_creation, which is then 0.
        or count(details, "ephemeral_5m_input_tokens") + count(details, "ephemeral_1h_input_tokens")
        or count(usage, *_CACHE_WRITTEN, "cache_write_tokens", "cache_creation_input_token_count")
    )
    cached_audio = count(fields(details.get("cached_tokens_details")), "audio_tokens")
    cached_audio = cached_audio or count(usage, "cache_audio_read_tokens")
    audio = count(details, "audio_tokens", "audio") or count(usage, "input_audio_tokens")
    return _split(
        ("input_tokens", prompt),
        cache_read_tokens=read,
        cache_write_tokens=written,
        audio_input_tokens=audio - cached_audio,
    )


def _inclusive_output(usage: Fields, completion: int) -> Axes:
    details = fields(first(usage, _OUTPUT_DETAILS))
    reasoning = count(details, "reasoning_tokens", "reasoning", "thinking_tokens")
    audio = count(details, "audio_tokens", "audio")
    return _split(
        ("output_tokens", completion),
        reasoning_tokens=reasoning or count(usage, *_FLAT_REASONING),
        audio_output_tokens=audio or count(usage, "output_audio_tokens"),
    )


def additive(usage: Fields) -> Axes | None:
    """Read cached tokens as coming on top of the input: Anthropic and Bedrock."""
    if first(usage, (*_INPUT, *_OUTPUT)) is None:
        return None
    thinking = count(fields(usage.get("output_tokens_details")), "thinking_tokens")
    output = _split(("output_tokens", count(usage, *_OUTPUT)), reasoning_tokens=thinking)
    return output | {
        "input_tokens": count(usage, *_INPUT),
        "cache_read_tokens": count(usage, *_CACHE_READ),
        "cache_write_tokens": count(usage, *_CACHE_WRITTEN),
        "server_tool_calls": _server_tool_calls(usage),
    }


def _server_tool_calls(usage: Fields) -> int:
    tools = fields(usage.get("server_tool_use"))
    return count(tools, "web_search_requests") + count(tools, "web_fetch_requests")


def gemini(usage: Fields) -> Axes | None:
    """Read cached tokens as part of the prompt, thoughts and tool results as on top of it."""
    if first(usage, (*_PROMPT, *_CANDIDATES, *_GEMINI_TOTAL)) is None:
        return None
    prompt = count(usage, *_PROMPT) + count(
        usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount", "total_tool_use_tokens"
    )
    thoughts = count(usage, "thoughts_token_count", "thoughtsTokenCount", "total_thought_tokens")
    rest = count(usage, *_GEMINI_TOTAL) - prompt - thoughts
    candidates = max(count(usage, *_CANDIDATES), rest)
    audio = _audio(usage, "prompt_tokens_details", "promptTokensDetails")
    cached_audio = _audio(usage, "cache_tokens_details", "cacheTokensDetails")
    cached = count(
        usage, "cached_content_token_count", "cachedContentTokenCount", "total_cached_tokens"
    )
    spoken = _audio(
        usage,
        "candidates_tokens_details",
        "candidatesTokensDetails",
        "response_tokens_details",
        "responseTokensDetails",
    )
    return (
        _split(
            ("input_tokens", prompt),
            cache_read_tokens=cached,
            audio_input_tokens=audio - cached_audio,
        )
        | _split(("output_tokens", candidates), audio_output_tokens=spoken)
        | {"reasoning_tokens": thoughts}
    )


def _audio(usage: Fields, *names: str) -> int:
    found = first(usage, names)
    listed = cast("list[object]", found) if isinstance(found, list) else []
    parts = (fields(part) for part in listed)
    return sum(
        count(part, "token_count", "tokenCount")
        for part in parts
        if text(part, ("modality",)) == "AUDIO"
    )


def _split(whole: tuple[str, int], **parts: int) -> Axes:
    """Take the parts out of the whole, in order, none below 0 or above what is left of it."""
    name, left = whole
    axes: Axes = {}
    for part, size in parts.items():
        axes[part] = min(max(size, 0), left)
        left -= axes[part]
    axes[name] = left
    return axes
