"""A foreign producer: it knows Celery's protocol and our contract, and nothing of our code."""

import base64
import json
import uuid
from typing import Any, Final, Protocol

import redis as redis_library

from tests.parts.following import KEYS
from tests.parts.tasks import chat

Json = dict[str, Any]

QUEUE: Final = "router.interactive"
#: Where the worker's Celery notes what it has taken and not acknowledged: by tag, and its times.
UNACKED: Final = "router.unacked"
UNACKED_INDEX: Final = "router.unacked_index"


def message(*arguments: Any, message_id: str = "", embedded: Any = None, **headers: Any) -> str:
    """Write a message as a Celery producer does; ``headers`` are more of them, or instead."""
    body = json.dumps([arguments, {}, embedded or {}])
    told = {"lang": "py", "task": "router.chat", "id": message_id or str(uuid.uuid4()), **headers}
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": told,
            "properties": {
                "body_encoding": "base64",
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "delivery_mode": 2,
                "delivery_tag": str(uuid.uuid4()),
                "priority": 0,
            },
        }
    )


def send(redis: redis_library.Redis, task: Json | None = None, **fields: Any) -> str:
    """Send a chat, or ``task``, with these fields as well; return its id.

    A task that has no id gets one.
    """
    whole = {"id": str(uuid.uuid4())} | (task or chat()) | fields
    redis.lpush(QUEUE, message(whole))
    return str(whole["id"])


class AnyQueue(Protocol):
    """The interactive queue, on whichever server, as a producer sees it; threads may use it."""

    def waiting(self) -> int:
        """Tell how many messages wait."""

    def send(self, task: Json | None = None, **fields: Any) -> str:
        """Send a task whole; as :func:`send`."""


class RedisQueue:
    """The same on Redis."""

    def __init__(self, redis: redis_library.Redis) -> None:
        """Speak through this client."""
        self._redis = redis

    def waiting(self) -> int:
        """Tell how many messages wait."""
        length: Any = self._redis.llen(QUEUE)
        return int(length)

    def send(self, task: Json | None = None, **fields: Any) -> str:
        """Send a task whole; as :func:`send`."""
        return send(self._redis, task, **fields)


def letters_of(redis: redis_library.Redis, count: int = 1) -> list[dict[bytes, bytes]]:
    """Return the dead letters' records, oldest first; none until there are so many."""
    found: Any = redis.zrange(KEYS.dead, 0, -1)
    records: Any = [redis.hgetall(KEYS.record(letter.decode())) for letter in found]
    return records if len(records) == count else []
