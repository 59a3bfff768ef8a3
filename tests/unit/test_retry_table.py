"""Which answers are asked for again, and when: status by protocol by streaming, and in-band.

Every row goes the whole way: bytes of an answer, the protocol's reading of it, the decision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest

from api_contracts.errors import ErrorCode
from api_contracts.options import RetryPolicy
from worker.errors import AttemptFailed, Failure
from worker.protocols import anthropic, gemini, openai
from worker.protocols.base import Call, ProtocolModule
from worker.retry import GiveUp, Reason, Retry, decide

NOW_MS = 1_893_456_000_000
#: The longest draw after the first failed call, by default.
CEILING_MS = 1000


class Dialect(NamedTuple):
    """How a provider refuses: which error it writes, and how it asks for a delay."""

    module: ProtocolModule
    error: Mapping[str, Any]
    headers: Mapping[str, str]
    asked_ms: int


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "47s"}
DIALECTS = {
    "openai": Dialect(
        openai,
        {"error": {"message": "m", "type": None, "code": None, "param": None}},
        {"retry-after-ms": "1500", "retry-after": "1", "x-request-id": "req_1"},
        1500,
    ),
    "anthropic": Dialect(
        anthropic,
        {"type": "error", "error": {"message": "m"}},
        {"retry-after": "7", "request-id": "req_1"},
        7000,
    ),
    "gemini": Dialect(
        gemini,
        {"error": {"message": "m", "details": [RETRY_INFO]}},
        {"x-goog-request-id": "req_1"},
        47_000,
    ),
}

#: None: asked for again; else given up, since no repetition mends it.
STATUSES: dict[int, tuple[ErrorCode, Reason | None]] = {
    400: (ErrorCode.REJECTED, Reason.NOT_RETRYABLE),
    401: (ErrorCode.AUTHENTICATION, Reason.NOT_RETRYABLE),
    402: (ErrorCode.PAYMENT_REQUIRED, Reason.NOT_RETRYABLE),
    403: (ErrorCode.AUTHENTICATION, Reason.NOT_RETRYABLE),
    404: (ErrorCode.REJECTED, Reason.NOT_RETRYABLE),
    408: (ErrorCode.TIMEOUT, None),
    409: (ErrorCode.CONFLICT, None),
    413: (ErrorCode.REJECTED, Reason.NOT_RETRYABLE),
    422: (ErrorCode.REJECTED, Reason.NOT_RETRYABLE),
    425: (ErrorCode.CONFLICT, None),
    429: (ErrorCode.RATE_LIMITED, None),
    500: (ErrorCode.UPSTREAM_ERROR, None),
    502: (ErrorCode.UPSTREAM_ERROR, None),
    503: (ErrorCode.OVERLOADED, None),
    504: (ErrorCode.TIMEOUT, None),
    529: (ErrorCode.OVERLOADED, None),
}


def after(
    failure: Failure,
    *,
    failures: int = 1,
    left_ms: int | None = None,
    jitter: Callable[[float], float] = float,
) -> Retry | GiveUp:
    return decide(
        failure,
        failures=failures,
        policy=RetryPolicy(),
        now_ms=NOW_MS,
        deadline_ms=None if left_ms is None else NOW_MS + left_ms,
        jitter=jitter,
    )


def body_of(name: str, *, stream: bool) -> bytes:
    """Write a provider's error as a call gets it: whole, or in the shape of the stream."""
    error = json.dumps(DIALECTS[name].error)
    if not stream:
        return error.encode()
    if name == "gemini":
        return f"[{error}\n]".encode()
    return f"data: {error}\n\n".encode()


def refused(name: str, status: int, *, stream: bool, **headers: str) -> Failure:
    dialect = DIALECTS[name]
    told = {**dialect.headers, **{key.replace("_", "-"): word for key, word in headers.items()}}
    body = body_of(name, stream=stream)
    return dialect.module.refuse(status, told, body, NOW_MS / 1000)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_decides_in_every_protocol_whether_streamed_or_not(
    status: int, name: str, *, stream: bool
) -> None:
    code, reason = STATUSES[status]
    failure = refused(name, status, stream=stream)
    assert (failure.code, failure.status, failure.request_id) == (code, status, "req_1")
    decision = after(failure)
    if reason is None:
        assert decision == Retry(failure, DIALECTS[name].asked_ms + CEILING_MS)
        earliest = after(failure, jitter=lambda _: 0.0)
        assert earliest == Retry(failure, DIALECTS[name].asked_ms)
    else:
        assert decision == GiveUp(failure, reason)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("status", STATUSES)
def test_x_should_retry_wins_over_every_status(status: int, name: str) -> None:
    wanted = refused(name, status, stream=False, x_should_retry="true")
    unwanted = refused(name, status, stream=False, x_should_retry="false")
    assert isinstance(after(wanted), Retry)
    assert after(unwanted) == GiveUp(unwanted, Reason.NOT_RETRYABLE)


@pytest.mark.parametrize("name", DIALECTS)
def test_x_should_retry_wins_neither_over_the_count_nor_over_the_deadline(name: str) -> None:
    failure = refused(name, 503, stream=False, x_should_retry="true")
    for decision, reason in (
        (after(failure, failures=5), Reason.ATTEMPTS_EXHAUSTED),
        (after(failure, left_ms=DIALECTS[name].asked_ms), Reason.DEADLINE),
    ):
        assert isinstance(decision, GiveUp)
        assert decision.reason is reason
        assert decision.failure.code is ErrorCode.OVERLOADED


@pytest.mark.parametrize(
    ("headers", "asked_ms"),
    [
        ({}, 0),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after-ms": "2.5"}, 3),
        ({"retry-after": formatdate(NOW_MS / 1000 + 30, usegmt=True)}, 30_000),
        ({"retry-after": formatdate(NOW_MS / 1000 - 30, usegmt=True)}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
    ],
)
def test_a_retry_comes_no_earlier_than_the_headers_ask(
    headers: dict[str, str], asked_ms: int
) -> None:
    failure = openai.refuse(429, headers, b"{}", NOW_MS / 1000)
    assert after(failure, jitter=lambda _: 0.0) == Retry(failure, asked_ms)
    assert after(failure) == Retry(failure, asked_ms + CEILING_MS)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(("spare_ms", "reason"), [(100, None), (99, Reason.DEADLINE)])
def test_asked_for_more_than_the_deadline_leaves_is_given_up_at_once(
    name: str, spare_ms: int, reason: Reason | None
) -> None:
    failure = refused(name, 429, stream=False)
    decision = after(failure, left_ms=DIALECTS[name].asked_ms + spare_ms)
    assert getattr(decision, "reason", None) is reason
    assert decision.failure.code is ErrorCode.RATE_LIMITED


#: Errors under HTTP 200, each in its protocol's words: code, and whether it is asked for again.
IN_BAND = [
    ("openai", {"error": {"message": "m", "type": "server_error"}}, "upstream_error", True),
    ("openai", {"error": {"message": "m", "code": "rate_limit_exceeded"}}, "rate_limited", True),
    ("openai", {"error": {"message": "m", "code": 503}}, "overloaded", True),
    ("openai", {"error": {"message": "m", "code": "invalid_api_key"}}, "authentication", False),
    ("openai", {"error": {"message": "m", "code": "content_filter"}}, "refused", False),
    (
        "anthropic",
        {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
        "overloaded",
        True,
    ),
    (
        "anthropic",
        {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}},
        "rejected",
        False,
    ),
    ("gemini", {"error": {"code": 503, "status": "UNAVAILABLE"}}, "overloaded", True),
    ("gemini", {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, "rejected", False),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "error", "code", "again"), IN_BAND)
def test_an_error_under_http_200_decides_as_the_status_that_it_stands_for(
    name: str, error: dict[str, Any], code: str, *, again: bool, stream: bool
) -> None:
    failure = in_band(DIALECTS[name].module, error, stream=stream)
    assert failure.code == code
    if again:
        assert after(failure) == Retry(failure, CEILING_MS)
    else:
        assert after(failure) == GiveUp(failure, Reason.NOT_RETRYABLE)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_geminis_delay_is_found_in_an_error_under_http_200_too(*, stream: bool) -> None:
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [RETRY_INFO]}}
    failure = in_band(gemini, error, stream=stream)
    assert after(failure) == Retry(failure, 47_000 + CEILING_MS)


def in_band(module: ProtocolModule, error: dict[str, Any], *, stream: bool) -> Failure:
    call = Call("POST", "/v1/any", {}, b"{}", stream=stream)
    fold, frame = module.fold(call), json.dumps(error).encode()
    with pytest.raises(AttemptFailed) as caught:
        _ = fold.add(frame) if stream else module.read(error)
    return caught.value.failure
