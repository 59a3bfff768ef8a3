"""Answers that nobody should send: each ends its task once, with a reason."""

import redis as redis_library

from api_contracts.client import Client
from tests.parts.answers import event
from tests.parts.following import error_of
from tests.parts.gate import Gate, stream, whole
from tests.parts.worker import Worker

MESSAGES = [{"role": "user", "content": "hello"}]


def test_an_answer_too_deep_to_be_kept_is_bought_once(
    gate: Gate, client: Client, redis: redis_library.Redis, worker: object
) -> None:
    deep = b"[" * 300 + b"]" * 300
    body = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"content":%b}}]}' % deep
    gate.answer(whole(body))
    error = error_of(redis, client.chat("m", MESSAGES).id)
    assert (error["code"], error["retryable"]) == ("internal", False)
    assert len(gate.requests) == 1


def test_a_stream_without_end_is_cut(
    gate: Gate, client: Client, redis: redis_library.Redis, worker: object
) -> None:
    piece = event({"choices": [{"index": 0, "delta": {"content": "x" * 1_000_000}}]})
    gate.answer(stream(*[piece] * 70))
    task = client.chat("m", MESSAGES, stream=True, options={"retry": {"max_attempts": 1}})
    assert error_of(redis, task.id, within=30)["code"] == "too_large"


def test_how_a_server_words_its_status_does_not_matter(
    gate: Gate, client: Client, worker: object
) -> None:
    """It need not be UTF-8: HTTP is older."""
    message = {"role": "assistant", "content": "Sea"}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    (answer,) = whole(body)
    assert isinstance(answer, bytes)
    gate.answer((answer.replace(b"200 Said", b"200 Gew\xe4hrt", 1),))
    response = client.chat("m", MESSAGES).result(timeout=10).response
    assert response["choices"][0]["message"]["content"] == "Sea"


def test_a_count_of_tokens_that_no_call_has_does_not_cost_the_answer(
    gate: Gate, client: Client, worker: Worker
) -> None:
    message = {"role": "assistant", "content": "Sea"}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    gate.answer(whole({"choices": choices, "usage": {"prompt_tokens": 10**400}}))
    result = client.chat("m", MESSAGES).result(timeout=10)
    assert result.response["choices"] == choices
    assert result.usage.provenance == "unavailable"
    assert all(count < 10**9 for count in worker.samples("tokens_total").values())
