"""Durations as Go writes them."""

import pytest

from veloci.spec.duration import parse, shown


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000), ("10ms", 10**7), ("1m30s", 90 * 10**9), ("1m1ms", 60_001_000_000),
        ("2us", 2000), ("2µs", 2000), ("7ns", 7), (".5s", 500_000_000), ("-1s", -(10**9)), ("0", 0), ("0s", 0),
        ("", None), ("-", None), ("5", None), ("h", None), ("1d", None), ("1s1", None), ("..s", None), ("1.2.3s", None),
        ("1 s", None), ("s1", None),
    ],
)  # fmt: skip
def test_a_duration_is_read(text, nanoseconds):
    assert parse(text) == nanoseconds


@pytest.mark.parametrize("text", ["0s", "1ms", "1.5ms", "1s", "2.5s", "1m0s", "1m30s", "1h0m5s", "100h0m0.000000001s"])
def test_a_duration_is_shown_as_go_shows_it(text):
    assert shown(parse(text)) == text
