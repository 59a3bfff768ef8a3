"""What the clients say to Redis, as generators: pure, so that one text serves both shells.

A flow yields a :class:`Batch` of commands, is sent the replies (an error among them as a value),
and returns what it was for. The shells run the batches, and wait.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError, RedisError

from api_contracts.client import record
from api_contracts.client.connection import PAGE, Until
from api_contracts.client.reassembler import Reassembler
from api_contracts.client.submission import CREATE, IDEMPOTENCY_GRACE_S, Argument, submission
from api_contracts.errors import IdempotencyConflict, RouterWorkerError, TaskExists
from api_contracts.events import Event
from api_contracts.names import EVENT_FIELD, Keys, State
from api_contracts.requests import Task
from api_contracts.results import Result, Status

Value = TypeVar("Value")
Command = tuple[Argument, ...]

_CREATE_SHA: Final = sha1(CREATE.encode(), usedforsecurity=False).hexdigest()
_FIELD: Final = EVENT_FIELD.encode()


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for one round trip, to the Redis of the records or to the broker."""

    commands: tuple[Command, ...]
    to_broker: bool = False


Flow = Generator[Batch, Sequence[Any], Value]


def enqueue(task: Task, keys: Keys, now_ms: int, *, one_redis: bool) -> Flow[str]:
    """Put a task on record and ring its doorbell; return the id it is known by.

    TaskExists or IdempotencyConflict where that id is on record with another content.
    """
    commands = submission(task, keys, now_ms)
    owned = yield from _owned(task, keys)
    if owned is not task:
        task, commands = owned, submission(owned, keys, now_ms)
    create: Command = ("EVALSHA", _CREATE_SHA, *commands.create_with_keys)
    ring = (commands.ring,)
    replies = yield Batch((commands.due, create, *(ring if one_redis else ())))
    if any(isinstance(reply, NoScriptError) for reply in replies):
        replies = yield Batch((("SCRIPT", "LOAD", CREATE), create, *(ring if one_redis else ())))
    _raise_error(replies)
    if replies[1] == b"other":
        raise _refusal(task)
    if not one_redis:
        _raise_error((yield Batch(ring, to_broker=True)))
    return task.id


def status(task_id: str, keys: Keys) -> Flow[Status]:
    """Read a task's status."""
    values = yield from _fields(task_id, keys, record.STATUS_FIELDS)
    return record.read_status(task_id, values)


def result(task_id: str, keys: Keys) -> Flow[Result | None]:
    """Read a task's result; None while it goes on."""
    values = yield from _fields(task_id, keys, record.RESULT_FIELDS)
    return record.read_result(task_id, values)


def log_page(task_id: str, keys: Keys, seen: Reassembler) -> Flow[list[Event]]:
    """Read the next page of the log behind the cursor.

    Where there is nothing, the record tells whether the task exists, and whether the cursor
    stands on its ending.
    """
    page = yield from _page(task_id, keys, seen)
    if not page:
        (state,) = yield from _fields(task_id, keys, ("state",))
        if state is None:
            raise record.not_found(task_id)
        if State(state.decode()).ended:
            page = yield from _page(task_id, keys, seen)
            seen.ended = not page
    seen.behind = len(page) == PAGE
    return seen.read(page)


def over(seen: Reassembler, until: Until) -> bool:
    """Tell whether a subscription has come to its task's ending, or its time is up."""
    return seen.ended or until.past


def _page(task_id: str, keys: Keys, seen: Reassembler) -> Flow[list[bytes]]:
    command: Command = ("XRANGE", keys.events(task_id), seen.log_start, "+", "COUNT", PAGE)
    (entries,) = _raise_error((yield Batch((command,))))
    return [_event_of(entry) for entry in entries]


def _event_of(entry: Any) -> bytes:
    """Take the event out of a log entry, which redis-py gives as id and dict, or as raw list."""
    fields = entry[1]
    event: bytes = fields[_FIELD] if isinstance(fields, dict) else fields[1]
    return event


def _fields(task_id: str, keys: Keys, names: Sequence[str]) -> Flow[list[bytes | None]]:
    replies = yield Batch((("HMGET", keys.record(task_id), *names),))
    values: list[bytes | None] = _raise_error(replies)[0]
    return values


def _owned(task: Task, keys: Keys) -> Flow[Task]:
    """Give the task the id under which its idempotency key is known, if it is."""
    key = task.options.idempotency_key
    if key is None:
        return task
    place = keys.idempotency(task.options.tenant, key)
    stay = task.options.result_ttl + IDEMPOTENCY_GRACE_S
    claim: Command = ("SET", place, task.id, "NX", "EX", stay)
    _, owner = _raise_error((yield Batch((claim, ("GET", place)))))
    known_id = owner.decode()
    return task if known_id == task.id else task.model_copy(update={"id": known_id})


def _raise_error(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


def _refusal(task: Task) -> RouterWorkerError:
    """Say whose content is already on record under this id."""
    if task.options.idempotency_key is not None:
        return IdempotencyConflict(task.id)
    return TaskExists(task.id)
