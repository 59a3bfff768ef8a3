"""What is tried again, when, and what never is."""

import json
import time
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.parts.aimock import Aimock
from tests.parts.answers import GEMINI
from tests.parts.following import ended, error_of, kinds, result_of
from tests.parts.gate import Do, Gate, whole

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("worker")

MESSAGES = [{"role": "user", "content": "hello"}]
#: Path and request of a call in each protocol.
CALLS: dict[str, tuple[str, Json]] = {
    "openai": ("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}),
    "anthropic": ("/v1/messages", {"model": "claude-3", "max_tokens": 9, "messages": MESSAGES}),
    "gemini": (f"{GEMINI}:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}),
}
#: What an error is called, by its status.
CODES = {
    400: "rejected",
    401: "authentication",
    402: "payment_required",
    403: "authentication",
    404: "rejected",
    413: "rejected",
    422: "rejected",
}
GOOD = whole(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}],
    }
)
LIMITED = {"error": {"message": "slow down", "type": "rate_limit_error"}}


def _chat(client: Client, **options: Any) -> str:
    """Enqueue a chat that is not streamed; return its id."""
    return client.chat("gpt-4o", MESSAGES, options=options).id


def _waited(gate: Gate) -> float:
    """How long it took from the first request to the second, in seconds."""
    first, second = gate.requests
    return second.at - first.at


@pytest.mark.parametrize("protocol", CALLS)
@pytest.mark.parametrize("status", CODES)
def test_what_no_repetition_mends_fails_once_and_says_why(  # noqa: PLR0913, PLR0917
    aimock: Aimock, gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str, status: int,
) -> None:  # fmt: skip
    error = {"message": f"no, for {status}", "type": "some_type", "code": "some_code"}
    aimock.serve({"match": {}, "response": {"error": error, "status": status}})
    gate.lead_to(aimock.url)
    path, request = CALLS[protocol]
    task = client.native(path, request, options={"stream": False})
    told = error_of(redis, task.id)
    (call,) = aimock.journal()
    assert told == {
        "code": CODES[status],
        "message": f"no, for {status}",
        "retryable": False,
        "status": status,
        "provider_code": "some_code" if protocol == "openai" else "some_type",
        "request_id": call["headers"]["x-request-id"],
        "attempts": 1,
    }
    assert len(gate.requests) == 1


@pytest.mark.parametrize("protocol", CALLS)
@pytest.mark.parametrize("streamed", [False, True])
def test_after_a_rate_limit_it_comes_back_no_earlier_than_asked(  # noqa: PLR0913
    aimock: Aimock, gate: Gate, client: Client, redis: redis_library.Redis,
    protocol: str, *, streamed: bool,
) -> None:  # fmt: skip
    wait = {"error": {"message": "slow down"}, "status": 429, "retryAfter": 0.4}
    aimock.serve(
        {"match": {"sequenceIndex": 0}, "response": wait},
        {"match": {"sequenceIndex": 1}, "response": {"content": "Now."}},
    )
    gate.lead_to(aimock.url)
    path, request = CALLS[protocol]
    task = client.native(path, request, options={"stream": streamed})
    events = ended(redis, task.id)
    chunks = ["chunk"] if streamed else []
    assert kinds(events) == ["queued", "started", "retrying", "started", *chunks, "completed"]
    retrying = events[2]
    assert retrying.type == "retrying"
    assert (retrying.error.code, retrying.error.status) == ("rate_limited", 429)
    assert 400 <= retrying.delay_ms <= 600
    assert retrying.next_at == retrying.at + retrying.delay_ms
    assert _waited(gate) >= 0.4
    assert [attempt.outcome for attempt in result_of(redis, task.id).attempts] == [
        "rate_limited",
        "completed",
    ]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry_after_ms": "400"}, LIMITED),
        ({"retry_after": "0.4"}, LIMITED),
        ({"retry_after": "0", "retry_after_ms": "400"}, LIMITED),
        (
            {},
            {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "message": "quota",
                    "details": [
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.4s"}
                    ],
                }
            },
        ),
    ],
    ids=["retry-after-ms", "retry-after", "the-longer-of-both", "RetryInfo"],
)
def test_every_way_to_ask_for_a_delay_is_heeded(
    gate: Gate, client: Client, redis: redis_library.Redis,
    headers: dict[str, str], body: Json,
) -> None:  # fmt: skip
    gate.answer(whole(body, 429, **headers), GOOD)
    result_of(redis, _chat(client))
    assert _waited(gate) >= 0.4


def test_a_retry_after_that_is_a_date_is_heeded(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    # Dates have whole seconds: one that begins in 1 to 2 s.
    date = int(time.time()) + 2
    text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(date))
    gate.answer(whole(LIMITED, 429, retry_after=text), GOOD)
    result_of(redis, _chat(client))
    assert time.time() >= date


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_may_be_better_at_another_moment_is_tried_again(
    gate: Gate, client: Client, redis: redis_library.Redis, status: int
) -> None:
    gate.answer(whole({"error": {"message": "not now"}}, status), GOOD)
    result = result_of(redis, _chat(client))
    assert [attempt.status for attempt in result.attempts] == [status, 200]
    assert result.response["choices"][0]["message"]["content"] == "ok"


@pytest.mark.parametrize("size", [0, 300_000], ids=["empty", "a-long-page"])
def test_a_refusal_counts_by_its_status_whatever_its_body_is(
    gate: Gate, client: Client, redis: redis_library.Redis, size: int
) -> None:
    page = b"<html>" * (size // 6)
    gate.answer(whole(page, 503, content_type="text/html"), GOOD)
    result = result_of(redis, _chat(client))
    assert [attempt.outcome for attempt in result.attempts] == ["overloaded", "completed"]


def test_a_refusal_whose_body_is_cut_counts_by_its_status(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n"
    gate.answer((head, b'{"error":', Do.CUT))
    error = error_of(redis, _chat(client))
    assert (error["code"], error["status"], error["attempts"]) == ("rejected", 400, 1)


def test_the_answers_own_word_wins_over_its_status_both_ways(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(
        whole({"error": {"message": "again"}}, 400, x_should_retry="true"),
        whole({"error": {"message": "over"}}, 503, x_should_retry="false"),
    )
    error = error_of(redis, _chat(client))
    assert (error["code"], error["attempts"], error["retryable"]) == ("overloaded", 2, False)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 4),
        ({"retry": {"max_attempts": 2, "base_s": 0}}, 2),
        ({"retry": {"max_attempts": 1}}, 1),
        # The contract's default, and not this worker's: who says it means it.
        ({"retry": {"max_attempts": 5}}, 5),
    ],
)
def test_it_gives_up_after_as_many_calls_as_the_policy_or_the_task_says(
    gate: Gate, client: Client, redis: redis_library.Redis,
    options: Json, calls: int,
) -> None:  # fmt: skip
    gate.answer(*[whole({"error": {"message": "not now"}}, 503)] * 10)
    error = error_of(redis, _chat(client, **options))
    assert len(gate.requests) == error["attempts"] == calls
    assert (error["code"], error["retryable"]) == ("overloaded", True)
    assert error["message"] == f"not now (no retry: {calls} of {calls} calls failed)"


def test_a_router_that_is_down_is_tried_again_until_it_is_up(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD)
    with gate.shut():
        task = _chat(client, retry={"max_attempts": 100, "base_s": 0.1, "cap_s": 0.1})
        refused = next(event for event in client.stream(task) if event.type == "retrying")
    assert (refused.error.code, refused.error.status) == ("connection", None)
    assert result_of(redis, task).usage.provenance == "unavailable"


def test_a_connection_cut_before_the_answer_is_tried_again(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer((Do.CUT,), (), GOOD)
    outcomes = [attempt.outcome for attempt in result_of(redis, _chat(client)).attempts]
    assert outcomes == ["connection", "connection", "completed"]


def test_what_is_no_http_or_no_json_is_tried_again(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(
        (b"SSH-2.0-OpenSSH_9.2\r\n",), whole(b"<html>hello</html>"), whole({"choices": []}), GOOD
    )
    outcomes = [attempt.outcome for attempt in result_of(redis, _chat(client)).attempts]
    assert outcomes == ["malformed", "malformed", "malformed", "completed"]


def test_a_redirect_is_not_followed_and_the_key_stays_here(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(whole({}, 307, location=f"{gate.url}/elsewhere"))
    error = error_of(redis, _chat(client))
    assert (error["code"], error["status"], len(gate.requests)) == ("rejected", 307, 1)


def test_every_attempt_is_on_record_with_its_request_id(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(
        whole({"error": {"message": "not now"}}, 503, x_request_id="req-1"),
        (b"HTTP/1.1 200 OK\r\nx-request-id: req-2\r\ncontent-length: 9\r\n\r\n{", Do.CUT),
        (GOOD[0].replace(b"\r\n", b"\r\nx-request-id: req-3\r\n", 1),),  # type: ignore[union-attr]
    )
    result = result_of(redis, _chat(client))
    told = [(one.attempt, one.outcome, one.status, one.request_id) for one in result.attempts]
    assert told == [
        (1, "overloaded", 503, "req-1"),
        (2, "truncated", 200, "req-2"),
        (3, "completed", 200, "req-3"),
    ]
    assert result.request_id == "req-3"
    assert json.loads(redis.hget(f"rw:{{{result.task_id}}}", "attempt:2") or b"")["attempt"] == 2
