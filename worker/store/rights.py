"""What a worker's user of Redis may do, tried without doing it.

1. MULTI is sent alone, and then PING: unless the server says that it keeps this one for later,
   nothing more is.
2. Each command of a worker's work is sent behind it, on keys of no task. The server checks a
   user's rights to commands, keys and channels before it keeps a command; what it keeps is carried
   out by EXEC, which is not sent: the connection is closed.
3. EXEC and WATCH, which cannot be tried so, are sent on a new connection, where they do nothing.

A server of a cluster checks so what is another's too, before it says where that is.

Whoever may not MULTI is no worker's user: nothing is found then. A refusal stands in the server's
log of refusals (``ACL LOG``), as each other would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from redis.exceptions import ExecAbortError, NoPermissionError

from api_contracts.names import Keys, Queue
from worker.store.link import TIMEOUT_S, connect
from worker.store.pipe import Pipe
from worker.store.queues import UNACKED, UNACKED_INDEX

Command = tuple[Any, ...]

#: The digest of a script that no server has.
_NO_SCRIPT: Final = "0" * 40
#: Keys of kombu's beside those that we name: one of its queues by priority, which are all asked for
#: messages, and the lock of who looks through what is not acknowledged.
_BY_PRIORITY: Final = "\x06\x163"
_MUTEX: Final = f"{UNACKED}_mutex"
#: What the server does not keep for later, but does at once: nothing, where nothing was kept.
_NOT_KEPT: Final = frozenset({"EXEC", "WATCH"})


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found, by commands and their keys; or why none was tried."""

    #: What the user may not.
    refused: tuple[str, ...] = ()
    #: What the server does not know: it is too old, or they are renamed.
    unknown: tuple[str, ...] = ()
    untried: str = ""


def of_records(keys: Keys) -> list[Command]:
    """Return what a worker does on the Redis of the records: every command on every kind of key.

    ``deploy/redis/users.acl`` grants the same; a test holds each to the other.
    """
    task_id = str(uuid4())
    record, events, due, dead = keys.record(task_id), keys.events(task_id), keys.due, keys.dead
    say = "SPUBLISH" if keys.sharded else "PUBLISH"
    note, idempotency = keys.worker("doctor"), keys.idempotency("doctor", task_id)
    return [
        ("TIME",),
        ("SCRIPT", "LOAD", "return 0"),
        ("EVALSHA", _NO_SCRIPT, 2, record, events),
        ("HGET", record, "state"), ("HMGET", record, "state"), ("HGETALL", record),
        ("HSET", record, "state", ""), ("HDEL", record, "state"), ("HEXISTS", record, "state"),
        ("EXPIRE", record, 1), ("EXPIRE", events, 1),
        ("XADD", events, "*", "event", ""), ("XREVRANGE", events, "+", "-"), ("XLEN", events),
        (say, keys.live(task_id), ""),
        ("EVALSHA", _NO_SCRIPT, 2, due, keys.tally),
        *([] if keys.sharded else [("EVALSHA", _NO_SCRIPT, 3, due, keys.tally, record)]),
        ("ZADD", due, 0, task_id), ("ZREM", due, task_id), ("ZCARD", due),
        ("ZRANGEBYSCORE", due, 0, 0),
        ("HINCRBY", keys.tally, "doctor", 1), ("HGETALL", keys.tally),
        ("ZADD", dead, 0, task_id), ("ZREMRANGEBYSCORE", dead, 0, 0), ("ZCARD", dead),
        ("EXPIRE", dead, 1),
        ("ZADD", keys.workers, 0, "doctor"), ("ZREM", keys.workers, "doctor"),
        ("ZREMRANGEBYSCORE", keys.workers, 0, 0), ("EXPIRE", keys.workers, 1),
        ("SET", note, ""), ("DEL", note),
        ("SET", idempotency, task_id, "NX"), ("GET", idempotency),
        ("EVALSHA", _NO_SCRIPT, 1, keys.exporter),
        ("GET", keys.exporter), ("SET", keys.exporter, ""), ("DEL", keys.exporter),
        ("SUBSCRIBE", keys.cancel),
        *([("CLUSTER", "SLOTS")] if keys.sharded else []),
    ]  # fmt: skip


def of_queues() -> list[Command]:
    """Return what a worker does on the Redis of Celery's queues."""
    of_queue = [
        command
        for queue in map(str, Queue)
        for command in (
            ("EVAL", "return 0", 1, queue),
            ("BRPOP", queue, queue + _BY_PRIORITY, 1), ("RPOP", queue),
            ("LPUSH", queue, ""), ("RPUSH", queue, ""), ("LINDEX", queue, -1), ("LLEN", queue),
        )
    ]  # fmt: skip
    return [
        *of_queue,
        ("ZADD", UNACKED_INDEX, 0, "doctor"), ("ZREM", UNACKED_INDEX, "doctor"),
        ("ZRANGE", UNACKED_INDEX, 0, 0),
        ("HSET", UNACKED, "doctor", ""), ("HGET", UNACKED, "doctor"), ("HDEL", UNACKED, "doctor"),
        ("SET", _MUTEX, ""), ("GET", _MUTEX), ("DEL", _MUTEX), ("EVALSHA", _NO_SCRIPT, 1, _MUTEX),
        ("EXEC",), ("WATCH", UNACKED),
    ]  # fmt: skip


async def tried(url: str, work: Sequence[Command]) -> Tried:
    """Find out which of these commands the URL's user may not send. Raises as the store does."""
    kept = [command for command in work if command[0] not in _NOT_KEPT]
    others = [command for command in work if command[0] in _NOT_KEPT]
    redis = connect(url)
    pipe = Pipe(redis.connection_pool, TIMEOUT_S)
    try:
        (opened,) = await pipe.send([("MULTI",)])
        if opened != b"OK":
            return Tried(untried=f"MULTI: {_said(opened)}")
        (first,) = await pipe.send([("PING",)])
        if first != b"QUEUED":
            return Tried(untried=f"PING behind MULTI: {_said(first)}")
        replies = await pipe.send(kept)
        await pipe.disconnect()
        replies += await pipe.send(others)
    finally:
        await pipe.disconnect()
        await redis.aclose()
    pairs = list(zip((*kept, *others), replies, strict=True))
    return Tried(
        refused=tuple(_named(one) for one, said in pairs if _is_refusal(said)),
        unknown=tuple(_named(one) for one, said in pairs if "unknown command" in _said(said)),
    )


def _is_refusal(reply: Any) -> bool:
    """Tell a missing right; that to EXEC is told as a transaction that fails."""
    aborted = isinstance(reply, ExecAbortError) and "NOPERM" in str(reply)
    return aborted or isinstance(reply, NoPermissionError)


def _said(reply: Any) -> str:
    return str(reply) if isinstance(reply, Exception) else repr(reply)


def _named(command: Command) -> str:
    """Name a command and where it is sent to: its first key or channel, or all of a script."""
    match command:
        case ("EVAL" | "EVALSHA" as name, _, number, *keys):
            return f"{name} on {', '.join(keys[:number])}"
        case ("CLUSTER" | "SCRIPT" as name, word, *_):
            return f"{name} {word}"
        case (name, key, *_):
            return f"{name} on {key}"
        case _:
            return str(command[0])
