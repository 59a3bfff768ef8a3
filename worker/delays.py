"""How long an answer asks its caller to wait, in all the ways that providers say it.

    retry-after-ms: 1500                              OpenAI, Azure: milliseconds
    retry-after: 2.5                                  seconds; RFC 9110 has whole ones, others not
    retry-after: Wed, 21 Oct 2026 07:28:00 GMT        RFC 9110, 5.6.7: three forms of a date
    "retryDelay": "47s"                               google.rpc.RetryInfo, in an error's details

What cannot be read is taken for not said: a negative number, NaN, a word. A date that has passed
asks for nothing (0). Nothing is too long here: ``retry.decide`` knows what a task can wait.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

#: Not float()'s grammar, which also reads ``1_0``, ``nan``, ``infinity`` and Arabic digits.
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*", re.ASCII)
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)s\s*", re.ASCII)
_RETRY_INFO = "google.rpc.RetryInfo"


def asked_s(headers: Mapping[str, str], error: Mapping[str, Any], now: float) -> float | None:
    """Return the longest delay that an answer asks for, in seconds; None where it asks for none.

    ``headers`` by lower-case name; ``error`` is the error object of the body, empty where there
    is none; ``now`` is unix time in seconds, which a date is counted from.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    told = [
        None if milliseconds is None else milliseconds / 1000,
        retry_after_s(headers.get("retry-after", ""), now),
        retry_info_s(error),
    ]
    return max((one for one in told if one is not None), default=None)


def retry_after_s(value: str, now: float) -> float | None:
    """Read a ``Retry-After`` header: seconds, or a date."""
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:  # asctime's form has no zone; HTTP dates are all GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, UTC)).total_seconds())


def retry_info_s(error: Mapping[str, Any]) -> float | None:
    """Read the longest ``RetryInfo`` among the details of a Google error."""
    details = error.get("details")
    told = [
        _duration(detail.get("retryDelay"))
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(_RETRY_INFO)
    ]
    return max((one for one in told if one is not None), default=None)


def _duration(value: object) -> float | None:
    """Read a protobuf duration as JSON writes it: ``47s``, ``1.500s``."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return _number(found.group(1)) if found else None


def _number(text: str) -> float | None:
    found = _NUMBER.fullmatch(text)
    number = float(found.group(1)) if found else math.inf
    return number if math.isfinite(number) else None
