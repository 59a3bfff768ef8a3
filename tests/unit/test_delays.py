"""How long an answer asks to wait, row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.delays import asked_s, retry_after_s, retry_info_s

NOW = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("20", 20.0),
        ("1.5", 1.5),
        (" 3 ", 3.0),
        ("007", 7.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("86401", 86_401.0),  # over a day: retry.decide knows what that means
        ("2592000", 2_592_000.0),
        ("", None),
        ("-10", None),
        ("+10", None),
        ("nan", None),
        ("inf", None),
        ("infinity", None),
        ("1e3", None),
        ("1_000", None),
        ("0x10", None),
        ("١٢", None),
        ("9" * 400, None),
        ("10s", None),
        ("10, 20", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:10 GMT", 10.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),  # it has passed
        ("Wednesday, 21-Oct-26 07:28:10 GMT", 10.0),
        ("Wed Oct 21 07:28:10 2026", 10.0),
        ("Wed, 21 Oct 2026 09:28:10 +0200", 10.0),
        ("Thu, 22 Oct 2026 07:28:00 GMT", 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251_609_819_459.0),
        ("Wed, 99 Oct 2026 07:28:10 GMT", None),
        ("Zun, 29 Sep 2016 100:99:50 GMT", None),
        ("Wed, 21 Oct", None),
    ],
)
def test_a_retry_after_header_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "47s"}], 47.0),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}], 1.5),
        ([{"@type": "google.rpc.RetryInfo", "retryDelay": "0.034074s"}], 0.034074),
        ([{"@type": "google.rpc.RetryInfo", "retryDelay": "0s"}], 0.0),
        ([{"@type": "google.rpc.RetryInfo", "retryDelay": "-3s"}], None),
        ([{"@type": "google.rpc.RetryInfo", "retryDelay": "47"}], None),
        ([{"@type": "google.rpc.RetryInfo", "retryDelay": 47}], None),
        ([{"@type": "google.rpc.RetryInfo"}], None),
        ([{"@type": "google.rpc.Help", "retryDelay": "47s"}], None),
        ([{"retryDelay": "47s"}], None),
        ([7, None, {"@type": "google.rpc.RetryInfo", "retryDelay": "2s"}], 2.0),
        (
            [
                {"@type": "google.rpc.RetryInfo", "retryDelay": "2s"},
                {"@type": "google.rpc.RetryInfo", "retryDelay": "9s"},
                {"@type": "google.rpc.RetryInfo", "retryDelay": "soon"},
            ],
            9.0,
        ),
        ([], None),
        ({"@type": "google.rpc.RetryInfo", "retryDelay": "2s"}, None),
        ("47s", None),
        (None, None),
    ],
)  # fmt: skip
def test_googles_retry_info_is_a_duration_among_the_details(
    details: Any, seconds: float | None
) -> None:
    assert retry_info_s({"details": details}) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "0.5"}, 0.0005),
        ({"retry-after-ms": "-1"}, None),
        ({"retry-after-ms": "1500", "retry-after": "1"}, 1.5),
        ({"retry-after-ms": "500", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_the_longest_of_several_delays_counts(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_s(headers, {}, NOW) == seconds


def test_the_body_may_ask_for_more_than_the_headers() -> None:
    error = {"details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "47s"}]}
    assert asked_s({"retry-after": "3"}, error, NOW) == 47.0
    assert asked_s({"retry-after": "60"}, error, NOW) == 60.0


@given(st.text())
def test_whatever_a_header_says_a_delay_is_a_number_of_seconds_or_none(value: str) -> None:
    for told in (retry_after_s(value, NOW), asked_s({"retry-after-ms": value}, {}, NOW)):
        assert told is None or 0 <= told < float("inf")
