"""Usage: disjoint axes, read from every provider's shape, as dicts and as the SDKs' objects."""

from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from anthropic.types import Message, RawMessageDeltaEvent, RawMessageStartEvent
from anthropic.types import Usage as AnthropicUsage
from google.genai.types import GenerateContentResponse
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseUsage

from budgetware.errors import InvalidAmount
from budgetware.usage import Usage, read_usage
from budgetware.usage_shapes import AXES

CHAT = {
    "prompt_tokens": 1_000,
    "completion_tokens": 300,
    "total_tokens": 1_300,
    "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 80},
}
CHAT_USAGE = Usage(
    input_tokens=300,
    output_tokens=100,
    cache_read_tokens=600,
    reasoning_tokens=120,
    audio_input_tokens=100,
    audio_output_tokens=80,
)
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 60,
    "output_tokens_details": {"reasoning_tokens": 50},
    "total_tokens": 160,
}
RESPONSES_USAGE = Usage(
    input_tokens=50,
    output_tokens=10,
    cache_read_tokens=40,
    cache_write_tokens=10,
    reasoning_tokens=50,
)
ANTHROPIC = {
    "input_tokens": 10,
    "cache_read_input_tokens": 2_000,
    "cache_creation_input_tokens": 300,
    "output_tokens": 90,
    "output_tokens_details": {"thinking_tokens": 40},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
}
ANTHROPIC_USAGE = Usage(
    input_tokens=10,
    output_tokens=50,
    cache_read_tokens=2_000,
    cache_write_tokens=300,
    reasoning_tokens=40,
    server_tool_calls=3,
)
GEMINI = {
    "promptTokenCount": 500,
    "cachedContentTokenCount": 200,
    "candidatesTokenCount": 70,
    "thoughtsTokenCount": 30,
    "toolUsePromptTokenCount": 25,
    "totalTokenCount": 625,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 400},
        {"modality": "AUDIO", "tokenCount": 100},
    ],
    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
    "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
}
GEMINI_USAGE = Usage(
    input_tokens=245,
    output_tokens=20,
    cache_read_tokens=200,
    reasoning_tokens=30,
    audio_input_tokens=80,
    audio_output_tokens=50,
)
CHUNK: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "m",
    "choices": [],
}
MESSAGE: dict[str, Any] = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
}


def named(usage: Usage, model: str) -> Usage:
    return replace(usage, model=model)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        pytest.param(CHAT, CHAT_USAGE, id="chat dict"),
        pytest.param(CompletionUsage.model_validate(CHAT), CHAT_USAGE, id="chat object"),
        pytest.param(RESPONSES, RESPONSES_USAGE, id="Responses dict"),
        pytest.param(
            ResponseUsage.model_validate(RESPONSES), RESPONSES_USAGE, id="Responses object"
        ),
        pytest.param(ANTHROPIC, ANTHROPIC_USAGE, id="Anthropic dict"),
        pytest.param(
            AnthropicUsage.model_validate(ANTHROPIC), ANTHROPIC_USAGE, id="Anthropic object"
        ),
        pytest.param({"usageMetadata": GEMINI}, GEMINI_USAGE, id="Gemini wire"),
        pytest.param(
            GenerateContentResponse.model_validate({"usageMetadata": GEMINI}),
            GEMINI_USAGE,
            id="Gemini object",
        ),
        pytest.param({"usage": CHAT}, CHAT_USAGE, id="response dict"),
        pytest.param(
            SimpleNamespace(usage=SimpleNamespace(**CHAT)), CHAT_USAGE, id="plain objects"
        ),
        pytest.param({"response": {"usage": RESPONSES}}, RESPONSES_USAGE, id="event dict"),
        pytest.param({"x_groq": {"usage": CHAT}}, CHAT_USAGE, id="Groq chunk"),
        pytest.param(asdict(CHAT_USAGE), CHAT_USAGE, id="own dict"),
        pytest.param({"input_tokens": 3, "cache_read_tokens": 9}, Usage(3, 0, 9), id="own partly"),
        pytest.param(MappingProxyType({"usage": CHAT}), CHAT_USAGE, id="mapping"),
        pytest.param(CHAT_USAGE, CHAT_USAGE, id="a Usage"),
    ],
)
def test_usage_is_read_from(reported: object, usage: Usage) -> None:
    assert Usage.of(reported) == usage


def test_a_chat_completion_names_its_model() -> None:
    completion = ChatCompletion.model_validate(
        {**CHUNK, "object": "chat.completion", "model": "gpt-4o-mini", "usage": CHAT}
    )
    assert Usage.of(completion) == named(CHAT_USAGE, "gpt-4o-mini")


def test_a_response_names_its_model() -> None:
    response = Response.model_construct(
        model="gpt-5", usage=ResponseUsage.model_validate(RESPONSES)
    )
    assert Usage.of(response) == named(RESPONSES_USAGE, "gpt-5")


def test_the_completed_event_of_a_responses_stream_is_read() -> None:
    event = SimpleNamespace(
        type="response.completed",
        response=Response.model_construct(
            model="gpt-5", usage=ResponseUsage.model_validate(RESPONSES)
        ),
    )
    assert Usage.of(event) == named(RESPONSES_USAGE, "gpt-5")


def test_embeddings_use_input_only() -> None:
    response = CreateEmbeddingResponse.model_validate(
        {
            "object": "list",
            "data": [],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    )
    assert Usage.of(response) == Usage(8, model="text-embedding-3-small")


def test_a_message_names_its_model() -> None:
    message = Message.model_validate({**MESSAGE, "usage": ANTHROPIC})
    assert Usage.of(message) == named(ANTHROPIC_USAGE, "claude")


def test_the_start_of_a_message_stream_is_read() -> None:
    usage = {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 5}
    event: dict[str, Any] = {"type": "message_start", "message": {**MESSAGE, "usage": usage}}
    expected = Usage(25, 1, 5, model="claude")
    assert Usage.of(event) == expected
    assert Usage.of(RawMessageStartEvent.model_validate(event)) == expected


def test_the_delta_of_a_message_stream_is_read() -> None:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    event = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}}
    assert Usage.of(event) == Usage(output_tokens=15)
    assert Usage.of(RawMessageDeltaEvent.model_validate(event)) == Usage(output_tokens=15)


def test_frames_of_a_message_stream_join_to_what_was_used() -> None:
    start = Usage(25, 1, 5, model="claude")
    assert start.highest(Usage(output_tokens=15, model="claude")) == Usage(
        25, 15, 5, model="claude"
    )


def test_cumulative_frames_join_to_the_last() -> None:
    frames = [Usage(output_tokens=n) for n in (10, 25, 40)]
    assert frames[0].highest(frames[1]).highest(frames[2]).total_tokens == 40


def test_gemini_names_its_model() -> None:
    response = GenerateContentResponse.model_validate(
        {"modelVersion": "gemini-2.5-flash", "usageMetadata": {"promptTokenCount": 3}}
    )
    assert Usage.of(response) == Usage(3, model="gemini-2.5-flash")


def test_gemini_interactions_are_read() -> None:
    usage = {
        "total_input_tokens": 100,
        "total_cached_tokens": 60,
        "total_output_tokens": 20,
        "total_thought_tokens": 7,
        "total_tokens": 127,
    }
    assert Usage.of({"usage": usage}) == Usage(40, 20, 60, reasoning_tokens=7)


def test_gemini_live_is_read() -> None:
    usage = {"promptTokenCount": 5, "responseTokenCount": 7, "totalTokenCount": 12}
    assert Usage.of({"usageMetadata": usage}) == Usage(5, 7)


def test_gemini_with_only_a_total_is_charged_as_output() -> None:
    assert Usage.of({"totalTokenCount": 12}) == Usage(output_tokens=12)


def test_langchain_input_includes_what_was_cached() -> None:
    metadata = {
        "input_tokens": 350,
        "output_tokens": 240,
        "total_tokens": 590,
        "input_token_details": {"audio": 10, "cache_creation": 200, "cache_read": 100},
        "output_token_details": {"audio": 10, "reasoning": 200},
    }
    expected = Usage(40, 30, 100, 200, 200, 10, 10)
    assert Usage.of({"usage_metadata": metadata}) == expected
    assert Usage.of(SimpleNamespace(content="hello", usage_metadata=metadata)) == expected


def test_langchain_cache_writes_by_lifetime_are_read() -> None:
    details = {"cache_creation": 0, "ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    metadata = {"input_tokens": 10, "output_tokens": 0, "input_token_details": details}
    assert Usage.of(metadata) == Usage(3, cache_write_tokens=7)


@dataclass
class RequestUsage:
    """The shape of pydantic-ai's."""

    input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    output_audio_tokens: int = 0
    details: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass
class AgentRun:
    spent: RequestUsage
    model_name: str = "gpt-5"
    provider_name: str = "openai"

    def usage(self) -> RequestUsage:
        return self.spent


REQUEST_USAGE = RequestUsage(100, 10, 40, 60, 20, 30, 5, 15)


@pytest.mark.parametrize("reported", [REQUEST_USAGE, asdict(REQUEST_USAGE)])
def test_pydantic_ai_input_includes_what_was_cached(reported: object) -> None:
    assert Usage.of(reported) == Usage(25, 25, 40, 10, 20, 25, 15)


def test_a_usage_method_is_called() -> None:
    expected = Usage(5, 6, model="gpt-5", provider="openai")
    assert Usage.of(AgentRun(RequestUsage(input_tokens=5, output_tokens=6))) == expected


def test_bedrock_adds_what_was_cached() -> None:
    usage = {"inputTokens": 5, "outputTokens": 6, "totalTokens": 18, "cacheReadInputTokens": 7}
    assert Usage.of({"usage": usage}) == Usage(5, 6, 7)


def test_a_total_without_room_for_the_cached_says_they_are_included() -> None:
    usage = {"inputTokens": 12, "outputTokens": 6, "totalTokens": 18, "cacheReadInputTokens": 7}
    assert Usage.of({"usage": usage}) == Usage(5, 6, 7)


def test_agent_framework_counts_are_read() -> None:
    usage = {
        "input_token_count": 12,
        "output_token_count": 6,
        "total_token_count": 18,
        "cache_read_input_token_count": 7,
        "reasoning_output_token_count": 2,
    }
    assert Usage.of({"usage_details": usage}) == Usage(5, 4, 7, reasoning_tokens=2)


def test_a_normalised_anthropic_usage_is_inclusive() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30,
    }
    assert Usage.of(usage) == Usage(10, 5, 60, 30)


def test_deepseek_cache_hits_are_read_off_the_extra_fields_of_the_sdk() -> None:
    usage = CompletionUsage.model_validate(
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "total_tokens": 11,
            "prompt_cache_hit_tokens": 8,
        }
    )
    assert Usage.of(usage) == Usage(2, 1, 8)


def test_reasoning_outside_of_the_completion_is_found_by_the_total() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert Usage.of(usage) == Usage(10, 5, reasoning_tokens=20)


def test_a_total_alone_is_charged_as_output() -> None:
    assert Usage.of({"total_tokens": 50}) == Usage(output_tokens=50)


def test_cached_audio_counts_as_cached() -> None:
    details = {
        "cached_tokens": 64,
        "audio_tokens": 100,
        "cached_tokens_details": {"audio_tokens": 40},
    }
    usage = {"input_tokens": 200, "output_tokens": 0, "input_token_details": details}
    assert Usage.of(usage) == Usage(76, cache_read_tokens=64, audio_input_tokens=60)


def test_parts_above_the_whole_are_cut_to_it() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 9},
    }
    assert Usage.of(usage) == Usage(0, 0, 8, 0, 5, 2)


def test_a_null_part_is_zero() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": None,
        "prompt_tokens_details": {"cached_tokens": None},
        "completion_tokens_details": None,
    }
    assert Usage.of(usage) == Usage(10)


def test_a_reported_zero_is_zero_and_not_unknown() -> None:
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 0}) == Usage()


@pytest.mark.parametrize(
    "reported",
    [
        pytest.param(None, id="None"),
        pytest.param("12 tokens", id="text"),
        pytest.param(12, id="int"),
        pytest.param([{"prompt_tokens": 1}], id="list"),
        pytest.param({}, id="empty"),
        pytest.param({"usage": None}, id="usage None"),
        pytest.param({"usage": {}}, id="usage empty"),
        pytest.param({"usage": "much"}, id="usage text"),
        pytest.param({"tokens": 5}, id="amounts"),
        pytest.param({"message": "hello"}, id="message text"),
        pytest.param(ChatCompletionChunk.model_validate(CHUNK), id="chunk without usage"),
        pytest.param(GenerateContentResponse(), id="Gemini without usage"),
        pytest.param(
            GenerateContentResponse.model_validate({"usageMetadata": {}}), id="Gemini empty"
        ),
        pytest.param({"type": "response.created", "response": {"usage": None}}, id="created"),
        pytest.param({"type": "content_block_delta", "delta": {"text": "x"}}, id="delta"),
        pytest.param(SimpleNamespace(), id="object"),
        pytest.param({"usage": {"usage": {"usage": {"usage": CHAT}}}}, id="too deep"),
    ],
)
def test_what_reports_nothing_is_unknown(reported: object) -> None:
    assert read_usage(reported) is None


def test_the_last_chunk_of_a_chat_stream_is_read() -> None:
    chunk = ChatCompletionChunk.model_validate({**CHUNK, "usage": CHAT})
    assert Usage.of(chunk) == named(CHAT_USAGE, "m")


def test_what_contains_itself_is_unknown() -> None:
    loop: dict[str, Any] = {}
    loop["response"] = loop
    assert read_usage(loop) is None


def test_asking_for_what_is_not_there_says_what_was_given_and_shows_no_content() -> None:
    with pytest.raises(InvalidAmount, match="no usage in dict: pass a response") as caught:
        Usage.of({"content": "secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [-1, True, 1.0, float("nan"), "12", 2**53, [1], {"secret": 1}, Mock()]
)
@pytest.mark.parametrize("key", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_a_count_that_is_none_is_refused(key: str, wrong: object) -> None:
    with pytest.raises(InvalidAmount) as caught:
        Usage.of({"prompt_tokens": 1, key: wrong})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [-1, True, 1.0, "12"])
def test_a_part_that_is_no_count_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidAmount):
        Usage.of({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": wrong}})


def test_a_mock_is_refused() -> None:
    with pytest.raises(InvalidAmount):
        Usage.of(Mock())


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("wrong", [-1, True, 1.0, "1", None, 2**53])
def test_an_axis_is_a_count(axis: str, wrong: Any) -> None:
    with pytest.raises(InvalidAmount, match=axis):
        Usage(**{axis: wrong})


def test_each_provider_can_be_named_outright() -> None:
    assert Usage.from_openai({"usage": RESPONSES}) == RESPONSES_USAGE
    assert Usage.from_anthropic({"usage": ANTHROPIC}) == ANTHROPIC_USAGE
    assert Usage.from_gemini({"usageMetadata": GEMINI}) == GEMINI_USAGE


def test_the_named_provider_decides_what_input_includes() -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4}
    assert Usage.from_anthropic(usage) == Usage(10, 5, 4)
    assert Usage.from_openai(usage) == Usage(6, 5, 4)


@pytest.mark.parametrize("read", [Usage.from_openai, Usage.from_anthropic, Usage.from_gemini])
def test_a_named_provider_without_its_usage_is_an_error(read: Any) -> None:
    with pytest.raises(InvalidAmount, match="no usage in dict"):
        read({"usage": None})


def test_the_names_of_another_provider_are_not_zero_usage() -> None:
    with pytest.raises(InvalidAmount):
        Usage.from_openai({"promptTokenCount": 5})
    with pytest.raises(InvalidAmount):
        Usage.from_gemini({"prompt_tokens": 5})
    with pytest.raises(InvalidAmount):
        Usage.from_anthropic({"prompt_tokens_count": 5})


def test_tool_calls_are_no_tokens() -> None:
    assert Usage(1, 1, server_tool_calls=5).total_tokens == 2


def test_the_charged_dimensions_include_cached_and_reasoning() -> None:
    assert Usage(1, 2, 4, 8, 16, 32, 64, 128).amounts() == {
        "tokens": 127,
        "input_tokens": 45,
        "output_tokens": 82,
    }


def test_usages_add_axis_by_axis() -> None:
    one = Usage(1, 2, 3, 4, 5, 6, 7, 8)
    assert one + one == Usage(2, 4, 6, 8, 10, 12, 14, 16)


def test_a_sum_keeps_the_model_where_both_have_it() -> None:
    one, other = Usage(model="a", provider="p"), Usage(model="b", provider="p")
    assert one + one == one
    assert one + other == Usage(provider="p")


def test_a_usage_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Usage().input_tokens = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


count = st.integers(0, 2**40)
maybe = st.none() | count


@given(count, count, maybe, maybe, maybe, maybe, maybe)
def test_a_chat_usage_always_adds_up(
    prompt: int,
    completion: int,
    cached: int | None,
    written: int | None,
    heard: int | None,
    thought: int | None,
    said: int | None,
) -> None:
    usage = Usage.of(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "audio_tokens": heard,
            },
            "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": said},
        }
    )
    assert usage.amounts() == {
        "tokens": prompt + completion,
        "input_tokens": prompt,
        "output_tokens": completion,
    }
    assert usage.total_tokens == prompt + completion


NAMES = [
    "usage",
    "usage_metadata",
    "response",
    "message",
    "model",
    "prompt_tokens",
    "output_tokens",
    "total_tokens",
    "promptTokenCount",
    "prompt_tokens_details",
    "promptTokensDetails",
    "cache_read_input_tokens",
    "server_tool_use",
    "cached_tokens",
    "modality",
]
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=20,
)


@given(json)
def test_garbage_is_unknown_or_refused(reported: object) -> None:
    try:
        usage = read_usage(reported)
    except InvalidAmount:
        return
    assert usage is None or usage.total_tokens >= 0


def test_a_later_frame_that_tells_what_was_cached_counts_no_token_twice() -> None:
    first = Usage(input_tokens=100)
    later = Usage(input_tokens=20, cache_read_tokens=80, output_tokens=5)
    assert first.highest(later) == later
