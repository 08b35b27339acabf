"""Wall time as text: what is written can be read, and says the same again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (951782400.0, "2000-02-29T00:00:00.000Z"),
        (1769861071.25, "2026-01-31T12:04:31.250Z"),
        (1769861071.9996, "2026-01-31T12:04:32.000Z"),  # rounded into the next second
    ],
)
def test_a_time_as_text(seconds: float, text: str) -> None:
    assert clock.timestamp(seconds) == text


@given(st.floats(0, 4e9))
def test_a_time_comes_back_to_the_millisecond(seconds: float) -> None:
    text = clock.timestamp(seconds)
    assert abs(clock.from_timestamp(text) - seconds) < 0.000501
    assert clock.timestamp(clock.from_timestamp(text)) == text


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_texts_sort_as_times_do(one: float, other: float) -> None:
    assert (clock.timestamp(min(one, other))) <= clock.timestamp(max(one, other))


def test_a_time_without_a_fraction_can_be_read() -> None:
    assert clock.from_timestamp("2026-01-31T12:04:31Z") == 1769861071.0


def test_now_is_between_two_nows() -> None:
    first, second, third = (clock.timestamp() for _ in range(3))
    assert first <= second <= third
