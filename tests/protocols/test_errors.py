"""Errors in every provider's words: as an answer that is no success, and under HTTP 200."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.errors import ErrorCode
from worker.errors import AttemptFailed, Failure
from worker.protocols import anthropic, gemini, openai, plain
from worker.protocols.base import Call, ProtocolModule
from worker.protocols.refusal import refuse, request_id_of

NOW = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC).timestamp()
STREAM = Call("POST", "/", {}, b"", stream=True)
MODULES: list[ProtocolModule] = [openai, anthropic, gemini, plain]
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "47s"}


def refused(status: int, body: object, headers: dict[str, str] | None = None) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refuse(status, headers or {}, raw, NOW)


def test_every_protocol_reads_refusals_alike() -> None:
    assert all(module.refuse is refuse for module in MODULES)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (302, ErrorCode.REJECTED, False),
        (400, ErrorCode.REJECTED, False),
        (401, ErrorCode.AUTHENTICATION, False),
        (402, ErrorCode.PAYMENT_REQUIRED, False),
        (403, ErrorCode.AUTHENTICATION, False),
        (404, ErrorCode.REJECTED, False),
        (408, ErrorCode.TIMEOUT, True),
        (409, ErrorCode.CONFLICT, True),
        (413, ErrorCode.REJECTED, False),
        (422, ErrorCode.REJECTED, False),
        (425, ErrorCode.CONFLICT, True),
        (429, ErrorCode.RATE_LIMITED, True),
        (500, ErrorCode.UPSTREAM_ERROR, True),
        (502, ErrorCode.UPSTREAM_ERROR, True),
        (503, ErrorCode.OVERLOADED, True),
        (504, ErrorCode.TIMEOUT, True),
        (529, ErrorCode.OVERLOADED, True),
    ],
)
def test_the_status_decides(status: int, code: ErrorCode, *, retryable: bool) -> None:
    failure = refused(status, {"error": {"message": "no"}})
    assert (failure.code, failure.retryable, failure.status) == (code, retryable, status)


@pytest.mark.parametrize(
    ("body", "message", "provider_code"),
    [
        (
            {"error": {"message": "Bad.", "type": "invalid_request_error", "code": None}},
            "Bad.",
            "invalid_request_error",
        ),
        (
            {"error": {"message": "Bad.", "type": "invalid_request_error", "code": "bad_tool"}},
            "Bad.",
            "bad_tool",
        ),
        (
            {"type": "error", "error": {"type": "not_found_error", "message": "No model."}},
            "No model.",
            "not_found_error",
        ),
        (
            {"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}},
            "No.",
            "INVALID_ARGUMENT",
        ),
        (
            [{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}],
            "No.",
            "INVALID_ARGUMENT",
        ),
        ({"error": {"code": "429", "message": "Slow."}}, "Slow.", "429"),
        ({"message": "Gone."}, "Gone.", None),
        ({"detail": "Gone."}, "Gone.", None),
        ({"error": "Gone."}, "Gone.", None),
        ({"detail": [{"input": "a prompt"}]}, "HTTP 400 from the router", None),
        ({"error": {"message": {"a": 1}, "type": ["x"]}}, "HTTP 400 from the router", None),
        ({"error": None}, "HTTP 400 from the router", None),
        ({}, "HTTP 400 from the router", None),
        ([], "HTTP 400 from the router", None),
        (7, "HTTP 400 from the router", None),
        (b"", "HTTP 400 from the router", None),
        (b"\xff\xfe", "HTTP 400 from the router", None),
        (b"<html><h1>502 Bad Gateway</h1></html>", "HTTP 400 from the router", None),
        (b"[" * 100_000, "HTTP 400 from the router", None),
    ],
)
def test_the_message_is_the_providers_own_where_it_has_one(
    body: object, message: str, provider_code: str | None
) -> None:
    failure = refused(400, body, {"content-type": "text/html"})
    assert failure.message == message
    assert failure.provider_code == provider_code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"upstream connect error\n", "upstream connect error"),
        (b"<p>no</p>", "HTTP 503 from the router"),
        (b"x" * 501, "HTTP 503 from the router"),
        (b"a\x00b", "HTTP 503 from the router"),
        (b"two\nlines", "HTTP 503 from the router"),
        (b"  ", "HTTP 503 from the router"),
    ],
)
def test_a_short_plain_text_is_a_proxys_message(text: bytes, message: str) -> None:
    assert refused(503, text, {"content-type": "text/plain; charset=utf-8"}).message == message


@pytest.mark.parametrize(
    "error",
    [
        {"code": "content_policy_violation"},
        {"code": "content_filter", "status": 400},
        {"code": "moderation_blocked", "type": "image_generation_user_error"},
        {"code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        {"code": "InputTextSensitiveContentDetected"},
    ],
)
def test_declined_content_is_a_refusal(error: dict[str, Any]) -> None:
    assert refused(400, {"error": error}).code is ErrorCode.REFUSED
    assert not refused(400, {"error": error}).retryable


@pytest.mark.parametrize(
    ("headers", "body", "request_id"),
    [
        ({"x-request-id": "r1", "request-id": "r2"}, {}, "r1"),
        ({"request-id": "r2"}, {"request_id": "r3"}, "r2"),
        ({"x-goog-request-id": "r4"}, {}, "r4"),
        ({"apim-request-id": "r5", "x-request-id": ""}, {}, "r5"),
        ({}, {"type": "error", "error": {}, "request_id": "r3"}, "r3"),
        ({}, {"request_id": 3}, None),
        ({}, {}, None),
    ],
)
def test_the_request_id_is_kept_for_the_providers_support(
    headers: dict[str, str], body: object, request_id: str | None
) -> None:
    assert refused(500, body, headers).request_id == request_id


def test_the_request_id_of_a_success_is_in_the_same_headers() -> None:
    assert request_id_of({"request-id": "r2", "content-type": "x"}) == "r2"
    assert request_id_of({}) is None


@pytest.mark.parametrize(
    ("headers", "body", "asked_s"),
    [
        ({}, {}, None),
        ({"retry-after": "3"}, {}, 3.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, {}, 30.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, {}, 1.0),
        ({}, {"error": {"details": [RETRY_INFO]}}, 47.0),
        ({"retry-after": "60"}, [{"error": {"details": [RETRY_INFO]}}], 60.0),
    ],
)
def test_the_longest_delay_that_was_asked_for_is_kept(
    headers: dict[str, str], body: object, asked_s: float | None
) -> None:
    assert refused(429, body, headers).asked_s == asked_s


@pytest.mark.parametrize(
    ("word", "should"),
    [("true", True), ("False", False), (" true ", True), ("1", None), ("", None)],
)
def test_x_should_retry_wins_over_the_status(word: str, *, should: bool | None) -> None:
    for status in (400, 500):
        failure = refused(status, {}, {"x-should-retry": word})
        assert failure.should_retry is should
        if should is not None:
            assert failure.retryable is should


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        ({"code": 429, "message": "m"}, ErrorCode.RATE_LIMITED, 429),
        ({"code": "503", "message": "m"}, ErrorCode.OVERLOADED, 503),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, ErrorCode.RATE_LIMITED, 429),
        ({"code": None, "type": "server_error"}, ErrorCode.UPSTREAM_ERROR, 500),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, ErrorCode.RATE_LIMITED, 429),
        ({"code": "engine_overloaded"}, ErrorCode.OVERLOADED, 503),
        ({"type": "overloaded_error"}, ErrorCode.OVERLOADED, 529),
        ({"type": "rate_limit_error"}, ErrorCode.RATE_LIMITED, 429),
        ({"type": "api_error"}, ErrorCode.UPSTREAM_ERROR, 500),
        ({"type": "timeout_error"}, ErrorCode.TIMEOUT, 504),
        ({"type": "invalid_request_error"}, ErrorCode.REJECTED, 400),
        ({"type": "authentication_error"}, ErrorCode.AUTHENTICATION, 401),
        ({"type": "billing_error"}, ErrorCode.PAYMENT_REQUIRED, 402),
        ({"type": "permission_error"}, ErrorCode.AUTHENTICATION, 403),
        ({"type": "not_found_error"}, ErrorCode.REJECTED, 404),
        ({"type": "request_too_large"}, ErrorCode.REJECTED, 413),
        ({"code": 503, "status": "UNAVAILABLE"}, ErrorCode.OVERLOADED, 503),
        ({"status": "RESOURCE_EXHAUSTED"}, ErrorCode.RATE_LIMITED, 429),
        ({"status": "DEADLINE_EXCEEDED"}, ErrorCode.TIMEOUT, 504),
        ({"code": "content_filter"}, ErrorCode.REFUSED, None),
        ({"code": 1302, "message": "m"}, ErrorCode.UPSTREAM_ERROR, None),
        ({"code": 200, "type": "server_error"}, ErrorCode.UPSTREAM_ERROR, 500),
        ({"code": True, "type": "overloaded"}, ErrorCode.OVERLOADED, 503),
        ({"code": "9" * 5000}, ErrorCode.UPSTREAM_ERROR, None),
        ({"type": "never_heard_of"}, ErrorCode.UPSTREAM_ERROR, None),
        ({"message": "m"}, ErrorCode.UPSTREAM_ERROR, None),
        ("m", ErrorCode.UPSTREAM_ERROR, None),
        (["m"], ErrorCode.UPSTREAM_ERROR, None),
    ],
)
def test_an_error_under_http_200_is_named_by_its_number_or_its_word(
    error: object, code: ErrorCode, status: int | None
) -> None:
    failures = []
    for module in MODULES:
        with pytest.raises(AttemptFailed) as whole:
            module.read({"error": error})
        failures.append(whole.value.failure)
    for module in (openai, anthropic, gemini):
        with pytest.raises(AttemptFailed) as inside:
            module.fold(STREAM).add(json.dumps({"error": error}).encode())
        failures.append(inside.value.failure)
    assert len(set(failures)) == 1
    assert (failures[0].code, failures[0].status) == (code, status)
    assert failures[0].message


def test_an_anthropic_error_event_is_an_error_even_without_words() -> None:
    for event in ({"type": "error"}, {"type": "error", "error": {}}):
        with pytest.raises(AttemptFailed) as caught:
            anthropic.fold(STREAM).add(json.dumps(event).encode())
        assert caught.value.failure.code is ErrorCode.UPSTREAM_ERROR


def test_an_error_of_null_is_none() -> None:
    chunk = {"error": None, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    fold = openai.fold(STREAM)
    assert fold.add(json.dumps(chunk).encode())
    assert fold.complete


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "type", "code", "status", "details", "innererror"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.integers(300, 599), BODIES, st.text())
def test_any_body_makes_a_failure_with_a_message(status: int, body: object, text: str) -> None:
    for raw in (json.dumps(body).encode(), text.encode("utf-8", "surrogatepass")):
        failure = refuse(status, {"content-type": "text/plain"}, raw, NOW)
        assert failure.status == status
        assert failure.message
        assert failure.task_error(1).code is failure.code
