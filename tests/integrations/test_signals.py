"""What providers say of their limits, read into seconds."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware_integrations._signals import MAX_PAUSE_SECONDS, pause_seconds

NOW = datetime(2026, 11, 5, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "2"}, 2),
        (429, {"retry-after": "1.5"}, 1.5),
        (529, {"retry-after": "7"}, 7),
        (503, {"retry-after": "7"}, 7),
        (429, {"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        (429, {"retry-after": "Thu, 05 Nov 2026 12:00:30 GMT"}, 30),
        (429, {"retry-after": "Thu, 05 Nov 2026 11:00:00 GMT"}, 0),
        (429, {"retry-after": "999999999"}, MAX_PAUSE_SECONDS),
        (429, {}, 0),
        (200, {"retry-after": "9"}, 0),
        (500, {"retry-after": "9"}, 0),
        (200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        (200, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "17ms"}, 0.017),
        (200, {"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "17ms"}, 0),
        (200, {"x-ratelimit-remaining-tokens": "0"}, 0),
        (
            200,
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-05T12:00:12Z",
            },
            12,
        ),
    ],
)
def test_seconds_to_hold_back(status: int, headers: dict[str, str], seconds: float) -> None:
    assert pause_seconds(status, headers, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e400", "soon", "6m0x", "", "9" * 200])
def test_nonsense_says_nothing(text: str) -> None:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}
    assert pause_seconds(429, headers | {"retry-after": text}, NOW) == 0


@given(st.sampled_from([200, 429]), st.text())
def test_any_text_gives_a_pause_of_an_hour_at_most(status: int, text: str) -> None:
    headers = {"retry-after": text, "retry-after-ms": text, "x-ratelimit-remaining-tokens": "0"}
    headers["x-ratelimit-reset-tokens"] = text
    assert 0 <= pause_seconds(status, headers, NOW) <= MAX_PAUSE_SECONDS
