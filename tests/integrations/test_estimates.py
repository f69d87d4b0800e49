"""Estimates of prompts: dear rather than cheap, and media by the piece."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware_integrations._estimates import MEDIA_TOKENS, estimate_tokens

JPEG = "data:image/jpeg;base64," + "A" * 400_000


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": JPEG}},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_audio", "input_audio": {"data": "A" * 4_000, "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image", "source": {"type": "base64", "data": "A" * 400_000}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"inlineData": {"mimeType": "image/png", "data": "A" * 400_000}},
        {"file_data": {"file_uri": "gs://a/b.mp4"}},
        {"image": {"format": "png", "source": {"bytes": b"A" * 400_000}}},
    ],
)
def test_a_picture_or_file_counts_as_one_however_it_is_sent(part: dict[str, Any]) -> None:
    assert MEDIA_TOKENS <= estimate_tokens(user([part])) < MEDIA_TOKENS + 50


PDF = "data:application/pdf;base64," + "A" * 400_000
MP4 = {"mime_type": "video/mp4", "data": b"A" * 3_000_000}


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}, 30_000),
        ({"type": "input_file", "file_data": PDF}, 30_000),
        (
            {
                "type": "document",
                "source": {
                    "type": "base64",
                    "media_type": "application/pdf",
                    "data": "A" * 400_000,
                },
            },
            30_000,
        ),
        ({"document": {"format": "pdf", "name": "a", "source": {"bytes": b"A" * 300_000}}}, 30_000),
        ({"type": "file", "mime_type": "text/csv", "data": "A" * 400_000}, 100_000),
        ({"type": "input_audio", "input_audio": {"data": "A" * 4_000_000}}, 30_000),
        ({"inlineData": {"mimeType": "audio/mp3", "data": "A" * 4_000_000}}, 30_000),
        ({"inline_data": MP4}, 30_000),
        ({"inline_data": SimpleNamespace(**MP4)}, 30_000),
        ({"type": "file", "mime_type": "image/png", "data": "A" * 4_000_000}, 1_600),
        ({"type": "file", "file": {"file_data": JPEG, "filename": "a.jpg"}}, 1_600),
        ({"type": "input_file", "file_data": "A" * 40_000_000}, 1_000_000),
    ],
)
def test_documents_sound_and_video_that_are_sent_count_by_their_size(
    part: dict[str, Any], tokens: int
) -> None:
    assert estimate_tokens(user([part])) == pytest.approx(tokens, abs=50)


def test_pictures_in_the_result_of_a_tool_count() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [picture, picture]}
    assert estimate_tokens(user([result])) > 2 * MEDIA_TOKENS


def test_a_document_that_is_sent_as_text_counts_its_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "word " * 30_000}
    assert estimate_tokens(user([{"type": "document", "source": source}])) > 30_000


def test_text_that_begins_like_a_data_url_counts_as_text() -> None:
    assert estimate_tokens(user("data: " + "word " * 30_000)) > 30_000


def test_names_of_files_in_the_arguments_of_tools_are_no_files() -> None:
    schema = {"type": "object", "properties": {"file": {"type": "string"}, "image": {}}}
    assert estimate_tokens([{"type": "function", "function": {"parameters": schema}}]) < 100


def test_tokens_count_as_they_are() -> None:
    assert estimate_tokens({"input": [[1, 2, 3], [4, 5]]}) == pytest.approx(5, abs=2)


def test_what_is_no_json_counts_as_its_text() -> None:
    class Part:
        def __init__(self) -> None:
            self.text = "word " * 300

    assert estimate_tokens([Part(), dict, len, 3.5, None]) > 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
)


@given(JSON, st.text())
def test_more_text_is_never_less(payload: Any, text: str) -> None:
    before = estimate_tokens([payload])
    assert 0 <= before <= estimate_tokens([payload, text])


@given(st.text())
def test_a_token_is_never_more_than_three_bytes_of_text(text: str) -> None:
    assert estimate_tokens(text + "x") * 3 >= len((text + "x").encode(errors="replace"))


def test_an_endless_structure_ends() -> None:
    endless: dict[str, Any] = {"text": "word"}
    endless["again"] = endless
    assert estimate_tokens(endless) > 0
