"""The signed text of a token: made and read again, changed in every place, and made by others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware.errors import TokenInvalid
from budgetware.token_keys import TokenKeys
from budgetware.token_texts import MOST_CHARACTERS, Claims, sign, verify

KEY = bytes(range(32))
KEYS = TokenKeys({"k1": KEY})
CLAIMS = Claims(
    token="00112233445566778899aabbccddeeff",
    resource="openai-tokens",
    kind="rate",
    dim="tokens",
    expected_use=200,
    allowance=10_000,
    expires=1_700_000_600,
    audience="https://searcher.example/run",
)
CONTENT: dict[str, Any] = {
    "allowance": 10_000,
    "aud": "https://searcher.example/run",
    "dim": "tokens",
    "exp": 1_700_000_600,
    "expected_use": 200,
    "jti": "00112233445566778899aabbccddeeff",
    "kid": "k1",
    "kind": "rate",
    "resource": "openai-tokens",
}
GOLDEN = (
    "bwt1."
    "eyJhbGxvd2FuY2UiOjEwMDAwLCJhdWQiOiJodHRwczovL3NlYXJjaGVyLmV4YW1wbGUvcnVuIiwiZGlt"
    "IjoidG9rZW5zIiwiZXhwIjoxNzAwMDAwNjAwLCJleHBlY3RlZF91c2UiOjIwMCwianRpIjoiMDAxMTIy"
    "MzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmYiLCJraWQiOiJrMSIsImtpbmQiOiJyYXRlIiwicmVzb3Vy"
    "Y2UiOiJvcGVuYWktdG9rZW5zIn0"
    ".zxCmLJM8kv84PbW90Wd7nOm3hS4ZhT0CHbgEDsvbG2U"
)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def text_of(payload: bytes, key: bytes = KEY) -> str:
    """The format once more, by the standard library alone."""
    mac = hmac.new(key, b"budgetware-token-1:" + payload, hashlib.sha256).digest()
    return f"bwt1.{encoded(payload)}.{encoded(mac)}"


def json_of(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def is_refused(text: Any, keys: TokenKeys = KEYS) -> bool:
    """Whether the answer is `TokenInvalid`, which tells nothing; other errors come out."""
    try:
        verify(text, keys)
    except TokenInvalid as error:
        shown = f"{error} {error!r} {error.__cause__} {error.__context__}"
        hidden = [text, KEY.hex(), repr(KEY)]
        return not any(len(str(part)) > 12 and str(part) in shown for part in hidden)
    return False


# One form.


def test_the_text_is_that_of_an_independent_implementation() -> None:
    assert sign(CLAIMS, KEYS) == text_of(json_of(CONTENT)) == GOLDEN


def test_a_text_says_what_was_signed() -> None:
    assert verify(GOLDEN, KEYS) == CLAIMS


def test_what_may_be_missing_is_null() -> None:
    claims = Claims(CLAIMS.token, "slots", "concurrency", None, 1, None, 1_700_000_600, None)
    assert verify(sign(claims, KEYS), KEYS) == claims


def test_the_longest_text_is_short_enough() -> None:
    most = 2**53 - 1
    claims = Claims("f" * 32, "r" * 128, "concurrency", "d" * 64, most, most, most, '"' * 256)
    text = sign(claims, TokenKeys({"k" * 128: KEY}))
    assert len(text) < MOST_CHARACTERS / 2
    assert text.isascii()


# Changed.


@pytest.mark.parametrize("new", [*string.printable, "\0", "é", "\u2028", "\ud800"])
def test_a_text_with_one_character_changed_is_refused(new: str) -> None:
    places = [place for place, old in enumerate(GOLDEN) if old != new]
    changed = [GOLDEN[:place] + new + GOLDEN[place + 1 :] for place in places]
    assert [text for text in changed if not is_refused(text)] == []


def test_a_text_with_a_character_less_or_more_is_refused() -> None:
    places = range(len(GOLDEN))
    less = [GOLDEN[:place] + GOLDEN[place + 1 :] for place in places]
    more = [GOLDEN[:place] + "A" + GOLDEN[place:] for place in [*places, len(GOLDEN)]]
    cut = [GOLDEN[:place] for place in places]
    assert [text for text in (*less, *more, *cut) if not is_refused(text)] == []


@pytest.mark.parametrize(
    "around", ["{}=", "{}==", " {}", "{}\n", "{}\0", "{}.", "Bearer {}", '"{}"']
)
def test_a_text_with_something_around_it_is_refused(around: str) -> None:
    assert is_refused(around.format(GOLDEN))


def test_another_way_to_write_the_same_bytes_is_refused() -> None:
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    twin = GOLDEN[:-1] + alphabet[alphabet.index(GOLDEN[-1]) ^ 1]
    decoded = [base64.urlsafe_b64decode(text.split(".")[2] + "=") for text in (GOLDEN, twin)]
    assert decoded[0] == decoded[1]
    assert is_refused(twin)


def test_parts_of_two_texts_are_no_text() -> None:
    other = text_of(json_of({**CONTENT, "allowance": 1_000_000}))
    assert is_refused(".".join([*other.split(".")[:2], GOLDEN.split(".")[2]]))


def test_a_signature_for_another_purpose_is_none() -> None:
    payload = json_of(CONTENT)
    mac = hmac.new(KEY, payload, hashlib.sha256).digest()
    assert is_refused(f"bwt1.{encoded(payload)}.{encoded(mac)}")


@pytest.mark.parametrize(
    "strange", [None, 7, b"bwt1.e30.AA", GOLDEN.encode(), [GOLDEN], {}, object()]
)
def test_what_is_no_text_is_refused(strange: object) -> None:
    assert is_refused(strange)


def test_letters_that_are_no_bytes_are_refused() -> None:
    assert is_refused(f"bwt1.A.{'A' * 43}")


def test_a_long_text_is_refused() -> None:
    content = json_of({**CONTENT, "aud": "a" * MOST_CHARACTERS})
    assert is_refused(text_of(content))


# Signed, and wrong all the same.

NEVER: list[Any] = [True, 1.5, [], {}, "", "é", "a b\n", -1, 2**53, "x" * 257]
WRONG: list[tuple[str, Any]] = [
    *[(name, value) for name in CONTENT for value in NEVER],
    *[(name, None) for name in CONTENT if name not in ("allowance", "aud", "dim")],
    *[(name, 0) for name in ("allowance", "expected_use", "exp")],
    *[(name, "10") for name in ("allowance", "expected_use", "exp")],
    ("kind", "capacities"),
    ("kid", "k2"),
    ("jti", "00112233445566778899AABBCCDDEEFF"),
    ("resource", "with space"),
    ("dim", "Tokens"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_a_field_with_a_value_it_cannot_have_is_refused(name: str, value: Any) -> None:
    assert is_refused(text_of(json_of({**CONTENT, name: value})))


@pytest.mark.parametrize("name", CONTENT)
def test_a_missing_field_is_refused(name: str) -> None:
    rest = {field: value for field, value in CONTENT.items() if field != name}
    assert is_refused(text_of(json_of(rest)))


def test_an_unknown_field_is_refused() -> None:
    assert is_refused(text_of(json_of({**CONTENT, "scope": "all"})))


@pytest.mark.parametrize("name", CONTENT)
def test_a_field_that_is_there_twice_is_refused(name: str) -> None:
    twice = b"{" + json_of({name: CONTENT[name]})[1:-1] + b"," + json_of(CONTENT)[1:]
    assert is_refused(text_of(twice))


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(CONTENT, sort_keys=True).encode(),
        json.dumps(dict(reversed(CONTENT.items())), separators=(",", ":")).encode(),
        json_of(CONTENT).replace(b"10000", b"1e4"),
        json_of(CONTENT).replace(b"10000", b"10000.0"),
        json_of(CONTENT).replace(b"10000", b"010000"),
        json_of(CONTENT).replace(b"10000", b"NaN"),
        json_of(CONTENT).replace(b"rate", b"r\\u0061te"),
        json_of(CONTENT) + b"\n",
        json_of(CONTENT).decode().encode("utf-16"),
        b"\xef\xbb\xbf" + json_of(CONTENT),
        b"[" * 3_000,
        b'{"a":' * 600,
        b"9" * 3_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"{",
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_content_in_another_form_is_refused(payload: bytes) -> None:
    assert is_refused(text_of(payload))


# Keys.


def test_the_first_key_signs_and_each_is_accepted() -> None:
    new = bytes(32)
    both = TokenKeys({"k2": new, "k1": KEY})
    assert sign(CLAIMS, both) == text_of(json_of({**CONTENT, "kid": "k2"}), new)
    assert verify(sign(CLAIMS, both), TokenKeys({"k1": KEY, "k2": new})) == CLAIMS
    assert verify(GOLDEN, both) == CLAIMS


def test_a_key_that_is_not_there_any_more_is_unknown() -> None:
    assert is_refused(GOLDEN, TokenKeys({"k2": bytes(32)}))


def test_the_name_of_a_key_does_not_stand_for_it() -> None:
    assert is_refused(GOLDEN, TokenKeys({"k1": bytes(32)}))


def test_a_key_under_another_name_is_another_key() -> None:
    assert is_refused(GOLDEN, TokenKeys({"renamed": KEY}))


def test_a_refusal_survives_pickle_and_tells_nothing() -> None:
    with pytest.raises(TokenInvalid) as refusal:
        verify(GOLDEN[:-1] + "_", KEYS)
    again = pickle.loads(pickle.dumps(refusal.value))
    assert str(again) == str(refusal.value)
    assert vars(again) == {}


# Anything at all.

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
names = st.sampled_from([*CONTENT, "other"])


@given(st.text() | st.binary() | leaves)
def test_anything_is_refused(anything: object) -> None:
    assert is_refused(anything)


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_."))
def test_anything_of_the_right_letters_is_refused(anything: str) -> None:
    assert is_refused("bwt1." + anything)
    assert is_refused(f"{GOLDEN}{anything}x")


@given(st.binary(max_size=600))
def test_any_signed_content_is_refused(payload: bytes) -> None:
    assert is_refused(text_of(payload))


@given(values)
def test_any_signed_json_is_refused(content: Any) -> None:
    assert is_refused(text_of(json_of(content)))


@settings(max_examples=300)
@given(st.dictionaries(names, values, max_size=3), st.sets(names, max_size=2))
def test_signed_changes_are_refused_unless_they_could_be_meant(
    changes: dict[str, Any], missing: set[str]
) -> None:
    content = {**CONTENT, **changes}
    content = {name: value for name, value in content.items() if name not in missing}
    try:
        claims = verify(text_of(json_of(content)), KEYS)
    except TokenInvalid:
        return
    assert text_of(json_of(content)) == sign(claims, KEYS)
