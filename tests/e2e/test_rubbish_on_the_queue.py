"""Messages on the queue that Celery itself cannot take: each is parked, and the worker goes on."""

import base64
import json
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from api_contracts.client.submission import ring
from api_contracts.requests import new_id
from tests.e2e.conftest import StartModuleWorker
from tests.parts.following import KEYS, error_of, result_of
from tests.parts.foreign import QUEUE, letters_of, message
from tests.parts.gate import Gate, whole
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker.admission import MESSAGE_LIMIT
from worker.store import UNACKED

Json = dict[str, Any]

OWN_ID = "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d"
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})


def _message(**changed: Any) -> Json:
    message: Json = json.loads(str(ring(new_id(), "chat", QUEUE, 1_800_000_000_000)[2]))
    return message | changed


def _without(*path: str) -> str:
    message = part = _message()
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return json.dumps(message)


def _body(text: str) -> str:
    return json.dumps(_message(body=base64.b64encode(text.encode()).decode()))


RUBBISH: dict[str, str | bytes] = {
    "no content-type": _without("content-type"),
    "no id": _without("headers", "id"),
    "no headers": _without("headers"),
    "no task": _without("headers", "task"),
    "no properties": _without("properties"),
    "no JSON": "{oops",
    "no object": "[]",
    "no text": b"\xff\xfe",
    "another's task": json.dumps(_message(headers={"task": "evil.task", "id": new_id()})),
    "pickle": json.dumps(_message(**{"content-type": "application/x-python-serialize"})),
    "eta on a doorbell": json.dumps(
        _message(headers={"task": "router.chat", "id": new_id(), "eta": "soon"})
    ),
    "a task's name that is no name": json.dumps(_message(headers={"task": {}, "id": new_id()})),
    "an id that is no name": json.dumps(_message(headers={"task": "router.chat", "id": [1]})),
    "an unknown body encoding": json.dumps(_message(properties={"body_encoding": "x"})),
    "headers that are none": json.dumps(_message(headers=[1])),
    "a time limit on a doorbell": json.dumps(
        _message(headers={"task": "router.chat", "id": new_id(), "timelimit": "x"})
    ),
}


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


#: Around the depth at which Python's own readers give up, wherever they are called from.
DEPTHS = (101, *range(860, 995, 3))


#: What says where its producer looks: the message, and the reason.
ANSWERED: dict[str, tuple[str | bytes, str]] = {
    "no body": (_without("body"), "its body is not JSON"),
    "no base64": (json.dumps(_message(body="%%%")), "its body is not base64"),
    "no JSON in the body": (_body("{oops"), "its body is not JSON"),
    "no array in the body": (
        _body('{"a": 1}'),
        "its body is not a list of arguments, keywords and the embedded",
    ),
    "a pickled task": (
        message(chat()).replace("application/json", "application/x-python-serialize"),
        "its content-type is not application/json",
    ),
    "eta": (message(chat(), eta="soon"), "it has the header eta; let the producer wait"),
    "expires": (
        message(chat(), expires="soon"),
        "it has the header expires; set options.expires_at in the task",
    ),
    "compression": (
        message(chat(), compression="application/x-gzip"),
        "it has the header compression; send it as it is",
    ),
    "time limit": (
        message(chat(), timelimit=[None, 5]),
        "it has the header timelimit; set options.deadline in the task",
    ),
    "callback": (
        message(chat(), embedded={"callbacks": [{"task": "x"}]}),
        "it asks for a chain or a callback; read the task's channel instead",
    ),
    "chain": (
        _body('[["x"], {}, {"chain": [{"task": "x"}], "callbacks": [1]}]'),
        "it asks for a chain or a callback; read the task's channel instead",
    ),
    "a task with an id of its own": (
        message(chat() | {"id": OWN_ID}, eta="soon"),
        "it has the header eta; let the producer wait",
    ),
}


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@pytest.fixture(scope="module")
def own(module_worker: StartModuleWorker) -> Worker:
    return module_worker()


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_on_the_queue_is_parked_and_the_worker_goes_on(
    own: Worker, gate: Gate, module_url: str, name: str
) -> None:
    with redis_library.Redis.from_url(module_url) as redis, Client(module_url) as client:
        redis.flushdb()
        redis.lpush(QUEUE, RUBBISH[name])
        gate.answer(GOOD)
        result_of(redis, client.chat("m", [{"role": "user", "content": "hello"}]).id)
        (kept,) = until(lambda: letters_of(redis), "a dead letter")
        assert json.loads(kept[b"error"])["code"] == "invalid_request"
        assert kept[b"message"] == _bytes(RUBBISH[name])
        (letter,) = redis.zrange(KEYS.dead, 0, -1)
        assert redis.ttl(KEYS.record(letter.decode())) > 0
        assert own.program.running


@pytest.mark.parametrize("where", ["head", "body"])
def test_no_depth_of_nesting_ends_the_worker(
    own: Worker, gate: Gate, module_url: str, where: str
) -> None:
    """A message that ends one would come again, and end the next."""
    shapes = {
        "head": lambda depth: message(chat(), x="@").replace('"@"', _nested(depth)),
        "body": lambda depth: _body(f"[[{_nested(depth)}], {{}}, {{}}]"),
    }
    with redis_library.Redis.from_url(module_url) as redis, Client(module_url) as client:
        redis.flushdb()
        redis.lpush(QUEUE, *(shapes[where](depth) for depth in DEPTHS))
        gate.answer(GOOD)
        result_of(redis, client.chat("m", [{"role": "user", "content": "hello"}]).id, within=30)
        assert redis.llen(QUEUE) == 0
        until(lambda: not redis.exists(UNACKED), "all are acknowledged")
        assert own.program.running


@pytest.mark.parametrize("name", ANSWERED)
def test_a_bad_message_that_tells_its_producers_place_is_answered_there_and_not_parked(
    own: Worker, module_url: str, name: str
) -> None:
    text, reason = ANSWERED[name]
    with redis_library.Redis.from_url(module_url) as redis:
        redis.flushdb()
        redis.lpush(QUEUE, text)
        place = json.loads(text)["headers"]["id"] if "own" not in name else OWN_ID
        error = error_of(redis, place)
        assert (error["code"], error["message"]) == ("invalid_request", f"message: {reason}")
        assert redis.zcard(KEYS.dead) == 0
        assert own.program.running


@pytest.mark.parametrize("name", ["its own task's", "another task's"])
def test_a_bad_message_touches_no_task_that_is_on_record(
    own: Worker, gate: Gate, module_url: str, name: str
) -> None:
    with redis_library.Redis.from_url(module_url) as redis, Client(module_url) as client:
        redis.flushdb()
        gate.answer(GOOD)
        known = client.enqueue(chat()).id
        before = result_of(redis, known)
        argument = known if name == "its own task's" else chat()
        redis.lpush(QUEUE, message(argument, message_id=known, eta="soon"))
        until(lambda: letters_of(redis), "a dead letter")
        assert result_of(redis, known) == before
        assert own.program.running


@pytest.mark.parametrize("tells", [True, False])
def test_a_message_that_is_too_large_is_answered_where_its_head_says(
    own: Worker, module_url: str, *, tells: bool
) -> None:
    text = message("x" * MESSAGE_LIMIT, message_id=OWN_ID if tells else "order-17")
    reason = f"has {len(text)} bytes; at most {MESSAGE_LIMIT} are taken"
    with redis_library.Redis.from_url(module_url) as redis:
        redis.flushdb()
        redis.lpush(QUEUE, text)
        if tells:
            assert error_of(redis, OWN_ID, within=30)["message"] == f"message: {reason}"
        else:
            (kept,) = until(lambda: letters_of(redis), "a dead letter", within=30)
            assert json.loads(kept[b"error"])["message"] == reason
            assert kept[b"message"] == text.encode()[: 64 * 1024]
        assert redis.zcard(KEYS.dead) == (not tells)
        assert own.program.running
