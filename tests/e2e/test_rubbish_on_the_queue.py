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
from tests.parts.following import KEYS, result_of
from tests.parts.gate import Gate, whole
from tests.parts.wait import until
from tests.parts.worker import Worker

Json = dict[str, Any]

QUEUE = "router.interactive"
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
    "no body": _without("body"),
    "no JSON": "{oops",
    "no object": "[]",
    "no text": b"\xff\xfe",
    "no base64": json.dumps(_message(body="%%%")),
    "no JSON in the body": _body("{oops"),
    "no array in the body": _body('{"a": 1}'),
    "another's task": json.dumps(_message(headers={"task": "evil.task", "id": new_id()})),
    "pickle": json.dumps(_message(**{"content-type": "application/x-python-serialize"})),
    "eta": json.dumps(_message(headers={"task": "router.chat", "id": new_id(), "eta": "soon"})),
    "a task's name that is no name": json.dumps(_message(headers={"task": {}, "id": new_id()})),
    "an id that is no name": json.dumps(_message(headers={"task": "router.chat", "id": [1]})),
    "an unknown body encoding": json.dumps(_message(properties={"body_encoding": "x"})),
    "headers that are none": json.dumps(_message(headers=[1])),
    "a time limit": json.dumps(
        _message(headers={"task": "router.chat", "id": new_id(), "timelimit": "x"})
    ),
    "chain": _body('[["x"], {}, {"chain": [{"task": "x"}], "callbacks": [1]}]'),
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
        result_of(redis, client.chat("m", [{"role": "user", "content": "hello"}]).id, within=5)
        until(lambda: redis.llen(QUEUE) == 0, "an empty queue")
        (letter,) = redis.zrange(KEYS.dead, 0, -1)
        kept: Any = redis.hgetall(KEYS.record(letter.decode()))
        assert json.loads(kept[b"error"])["code"] == "invalid_request"
        assert kept[b"message"] == _bytes(RUBBISH[name])
        assert redis.ttl(KEYS.record(letter.decode())) > 0
        assert own.program.running
