"""Dead letters, written as a worker writes them: the index first, then the record."""

import json
import time
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import redis as redis_library

from api_contracts.client import letters
from api_contracts.client.flows import Batch, Rings
from tests.parts.scripts import KEYS, Hand, Scripts, a_task
from worker.store.records import DEAD_TTL_S

#: What the one call came to that was made for a task that is buried.
CALL: Final = (
    '{"attempt":1,"worker":"hand","outcome":"timeout","usage":{"provenance":"unavailable"}}'
)
_ERROR: Final = '{"code":"invalid_request","message":"its message is not JSON","retryable":false}'


def now_ms() -> int:
    return int(time.time() * 1000)


def bury(
    redis: redis_library.Redis,
    at: int | None = None,
    *,
    text: str = "hello",
    code: str = "overloaded",
    **options: Any,
) -> str:
    """A task that has failed of this error behind one chunk; ``at`` is when, in unix ms."""
    task, scripts = a_task(text, **options), Scripts(redis)
    scripts.create(task)
    hand = Hand(redis, task.id)
    hand.say("half")
    at = now_ms() if at is None else at
    redis.zadd(KEYS.dead, {task.id: at})
    error = json.dumps({"code": code, "message": "busy", "retryable": True})
    fields: dict[str, Any] = {"attempt:1": CALL, "ended_at": at, "error": error}
    hand.fail()
    scripts.set(task.id, **fields)
    for key in (KEYS.record(task.id), KEYS.events(task.id)):
        redis.expire(key, DEAD_TTL_S)
    return task.id


def park(redis: redis_library.Redis, message: bytes = b"{oops", at: int | None = None) -> str:
    """A message that was none."""
    letter_id, at = str(uuid4()), now_ms() if at is None else at
    redis.zadd(KEYS.dead, {letter_id: at})
    record: Any = {
        "state": "failed", "kind": "message", "queue": "router.batch", "attempt": 0,
        "failures": 0, "created_at": at, "ended_at": at, "error": _ERROR, "message": message,
    }  # fmt: skip
    redis.hset(KEYS.record(letter_id), mapping=record)
    return letter_id


def replaying(redis: redis_library.Redis, task_id: str) -> Iterator[tuple[Any, ...]]:
    """Replay a letter as a client does, and yield each command once it has been carried out."""
    flow = letters.replay(task_id, KEYS, now_ms(), one_redis=True)
    batch: Batch | Rings | None = next(flow)
    while batch is not None:
        assert isinstance(batch, Batch)
        replies: list[Any] = []
        for command in batch.commands:
            pipe: Any = redis.pipeline(transaction=False)
            replies += pipe.execute_command(*command).execute(raise_on_error=False)
            yield command
        try:
            batch = flow.send(replies)
        except StopIteration:
            batch = None
