"""Looking at streams of bytes: wherever they are cut, the same events are seen and passed on."""

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware_integrations import _wire
from budgetware_integrations._model_calls import ModelCall
from budgetware_integrations._options import CallSettings
from budgetware_integrations._wire import Document, Events, Passage

ENDS = ["\n", "\r\n", "\r"]
EVENT = st.builds(
    lambda end, name, data, blank: (
        (f"event: {name}{end}" if name else "")
        + "".join(f"data: {line}{end}" for line in data.split("\n"))
        + blank
    ),
    st.sampled_from(ENDS),
    st.sampled_from(["", "message_delta", "é"]),
    st.sampled_from(
        [
            '{"text": "a"}',
            '{"usage": 1}',
            '{"usage":\n 2}',
            '{"usage": "hidden"}',
            "[DONE]",
            "usage, but no JSON",
            '"☃ usage"',
        ]
    ),
    st.sampled_from(ENDS),
)
STREAM = st.builds(
    lambda events, rest: ("".join(events) + rest).encode(),
    st.lists(EVENT, max_size=6),
    st.sampled_from(["", "data: {", 'data: {"usage": 3}', ": ping\n"]),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at any bytes."""
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def read(chunks: list[bytes]) -> tuple[list[Any], bytes, bool]:
    """What was seen, what was passed on, and whether the stream said it was over."""
    seen: list[Any] = []

    def look(event: Any) -> bool:
        seen.append(event)
        return bool(event != {"usage": "hidden"})

    events = Events(look)
    passed = b"".join([events.feed(chunk) for chunk in chunks]) + events.rest()
    return seen, passed, events.is_over


@given(STREAM, st.lists(st.integers(min_value=0), max_size=12))
def test_events_are_the_same_wherever_the_bytes_are_cut(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


@given(STREAM)
def test_bytes_one_by_one_are_the_same_events(data: bytes) -> None:
    assert read([data[i : i + 1] for i in range(len(data))]) == read([data])


@given(STREAM)
def test_all_but_what_is_hidden_passes_unchanged(data: bytes) -> None:
    seen, passed, _ = read([data])
    assert (passed == data) is ({"usage": "hidden"} not in seen)


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=12))
def test_any_bytes_pass_unchanged(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places))[1] == data


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_whole_event_is_passed_on_at_once(end: str) -> None:
    events = Events(lambda _event: True)
    event = f"data: {{}}{end}{end}".encode()
    assert events.feed(event) == event


def test_an_event_of_several_lines_is_one() -> None:
    assert read([b'data: {"usage":\ndata: {"a": 1}}\n\n'])[0] == [{"usage": {"a": 1}}]


def test_an_event_that_is_too_long_passes_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "MOST_BYTES", 1_000)
    long = b'data: {"usage": "' + b"x" * 5_000 + b'"}\n\n'
    after = b'data: {"usage": 1}\n\n'
    chunks = [*cut(long, list(range(0, len(long), 100))), after]
    seen, passed, _ = read(chunks)
    assert passed == long + after
    assert {"usage": 1} in seen


def test_a_long_stream_in_small_pieces_takes_no_longer_by_the_square() -> None:
    event = b'data: {"text": "' + b"x" * 1_000_000 + b'"}\n\n'
    chunks = [event[i : i + 100] for i in range(0, len(event), 100)]
    assert read(chunks)[1] == event


def test_a_document_is_seen_when_it_is_whole() -> None:
    seen: list[Any] = []

    def look(event: Any) -> bool:
        seen.append(event)
        return True

    document = Document(look)
    data = json.dumps({"usage": 1}).encode()
    assert [document.feed(data[:5]), document.feed(data[5:]), document.rest()] == [
        data[:5],
        data[5:],
        b"",
    ]
    assert seen == [{"usage": 1}]


@pytest.mark.parametrize("data", [b"", b"no JSON", b"\xff\xfe", b"[" * 200_000])
def test_what_is_no_document_is_passed_on(data: bytes) -> None:
    document = Document(lambda _event: True)
    assert document.feed(data) + document.rest() == data


@given(STREAM, st.lists(st.integers(min_value=0), max_size=12))
def test_what_is_compressed_is_read_and_passed_on_decoded(data: bytes, places: list[int]) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(data) + packer.flush()
    call = ModelCall(CallSettings(), provider="p", model="m", prompt="hello")
    passage = Passage(call, Events(lambda _event: True), zlib.decompressobj(47))
    passed = b"".join([passage.feed(chunk) for chunk in cut(packed, places)]) + passage.rest()
    assert passed == data
