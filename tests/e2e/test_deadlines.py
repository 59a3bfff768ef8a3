"""Start-by and finish-by: what they stop, and when."""

import re
import time
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.parts import answers
from tests.parts.following import ended, error_of, kinds, result_of
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.wait import until

pytestmark = pytest.mark.usefixtures("worker")

MESSAGES = [{"role": "user", "content": "hello"}]
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
LIMITED = {"error": {"message": "slow down", "type": "rate_limit_error"}}


def _chat(client: Client, **options: Any) -> str:
    """Enqueue a chat that is not streamed; return its id."""
    return client.chat("gpt-4o", MESSAGES, options=options).id


def _now_ms() -> int:
    return int(time.time() * 1000)


def test_asked_to_wait_beyond_its_deadline_a_task_fails_at_once(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(whole(LIMITED, 429, retry_after="90"))
    deadline = _now_ms() + 60_000
    task = _chat(client, deadline=deadline)
    error = error_of(redis, task, within=30)
    assert ended(redis, task)[-1].at < deadline - 25_000
    assert (error["code"], error["attempts"]) == ("rate_limited", 1)
    left = re.fullmatch(
        r"slow down \(no retry: the answer asked for 90 s, the deadline leaves (\S+) s\)",
        error["message"],
    )
    assert left, error
    assert 25 < float(left[1]) < 60


def test_no_call_runs_past_the_deadline(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(stream(*answers.openai("half", finish=False), Do.HANG))
    deadline = _now_ms() + 3_000
    options = {"deadline": deadline}
    task = client.chat("gpt-4o", MESSAGES, stream=True, options=options)
    ending = ended(redis, task.id, within=30)[-1]
    # Nothing else would end it before a minute has passed without a chunk.
    assert deadline - 10 <= ending.at < deadline + 15_000
    error = error_of(redis, task.id)
    assert (error["code"], error["retryable"], error["attempts"]) == ("deadline", False, 1)
    assert len(gate.requests) == 1


def test_a_task_that_is_past_its_start_by_is_never_sent(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(GOOD)
    task = _chat(client, expires_at=_now_ms() - 1)
    assert kinds(ended(redis, task)) == ["queued", "expired"]
    assert client.status(task).state == "expired"
    assert gate.requests == []


def test_a_start_by_says_nothing_of_a_task_that_was_started(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(whole(LIMITED, 429, retry_after="3"), GOOD)
    result_of(redis, _chat(client, expires_at=_now_ms() + 3_000))
    assert len(gate.requests) == 2


def test_a_deadline_does_not_count_for_a_task_that_is_replayed_later(
    gate: Gate, client: Client, redis: redis_library.Redis
) -> None:
    gate.answer(whole({"error": {"message": "pay"}}, 402), GOOD)
    deadline = _now_ms() + 3_000
    task = _chat(client, deadline=deadline, expires_at=deadline)
    assert error_of(redis, task)["code"] == "payment_required"
    until(lambda: _now_ms() > deadline, "the deadline is past")
    client.replay(task)
    assert client.result(task, timeout=10).finish_reason == "stop"
