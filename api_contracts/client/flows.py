"""What the clients say to Redis, as generators: pure, so that one text serves both shells.

A flow yields a :class:`Batch` of commands, is sent the replies (an error among them as a value),
and returns what it was for. The shells run the batches, and wait.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError, RedisError

from api_contracts.client import record
from api_contracts.client.box import Box
from api_contracts.client.connection import PAGE, Until
from api_contracts.client.keyring import NO_KEYS, Keyring
from api_contracts.client.protection import UNPROTECTED, Protection
from api_contracts.client.reassembler import Reassembler
from api_contracts.client.scripts import Script
from api_contracts.client.submission import (
    CREATE,
    Argument,
    Bell,
    Submission,
    asks_the_same,
    key_commands,
    ring,
    submission,
)
from api_contracts.errors import IdempotencyConflict, RouterWorkerError, TaskExists
from api_contracts.events import Event
from api_contracts.names import EVENT_FIELD, Keys, State
from api_contracts.requests import Task
from api_contracts.results import Result, Status

Value = TypeVar("Value")
Command = tuple[Argument, ...]
#: A task, and the commands that put it on Redis.
Submitted = tuple[Task, Submission]

#: Most tasks that are put on Redis in one round trip: some ms of its time.
TOGETHER: Final = 200
#: Most bytes of their bodies, unless one alone has more.
TOGETHER_BYTES: Final = 1024 * 1024

_CREATE: Final = Script.of(CREATE)
_CANCEL: Final = Script.named("cancel")
_FIELD: Final = EVENT_FIELD.encode()


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for one round trip to the Redis of the records."""

    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Rings:
    """Doorbells to be rung where the queues are elsewhere than the records.

    Replied are those that could not be.
    """

    bells: tuple[Bell, ...]


Flow = Generator[Batch | Rings, Sequence[Any], Value]


def enqueue(
    task: Task,
    keys: Keys,
    now_ms: int,
    protection: Protection = UNPROTECTED,
    *,
    one_redis: bool,
) -> Flow[str]:
    """Put a task on record and ring its doorbell; return the id it is known by.

    TaskExists or IdempotencyConflict where that id is on record with another content.
    """
    pairs = [(task, submission(task, keys, now_ms, protection))]
    (answer,) = yield from _enqueued(pairs, keys, now_ms, protection, one_redis=one_redis)
    if isinstance(answer, RouterWorkerError):
        raise answer
    return answer


def enqueue_all(
    tasks: Sequence[Task],
    keys: Keys,
    now_ms: int,
    protection: Protection = UNPROTECTED,
    *,
    one_redis: bool,
) -> Flow[list[str]]:
    """Put tasks on record and ring their doorbells, many in one round trip; return their ids.

    Nothing is sent where one of them is an InvalidTask. TaskExists or IdempotencyConflict, as
    :func:`enqueue`, for the first that is refused, once all others are on record.
    """
    pairs = [(task, submission(task, keys, now_ms, protection)) for task in tasks]
    answers: list[str | RouterWorkerError] = []
    for some in _together(pairs):
        answers += yield from _enqueued(some, keys, now_ms, protection, one_redis=one_redis)
    ids = []
    for answer in answers:
        if isinstance(answer, RouterWorkerError):
            raise answer
        ids.append(answer)
    return ids


def cancel(task_id: str, keys: Keys) -> Flow[bool]:
    """Cancel a task; tell whether it is cancelled now, which it may have been before.

    False where it had ended otherwise; TaskNotFound where there is no record.
    """
    task = (keys.record(task_id), keys.events(task_id))
    script = _CANCEL.on(keys)
    call = script.call(task, task_id, keys.live(task_id), keys.cancel)
    (word,) = yield from sent(script, call)
    if word == b"missing":
        raise record.not_found(task_id)
    if word == b"cancelled":
        # Somebody is to look at it at once, by whatever clock: to count it. Where it stands there
        # no more, somebody has.
        raise_error((yield Batch((("ZADD", keys.due, "XX", 0, task_id),))))
    return bool(word == b"cancelled")


def status(task_id: str, keys: Keys, keyring: Keyring = NO_KEYS) -> Flow[Status]:
    """Read a task's status."""
    values = yield from fields(task_id, keys, record.STATUS_FIELDS)
    return record.read_status(task_id, values, Box(keyring, task_id))


def result(task_id: str, keys: Keys, keyring: Keyring = NO_KEYS) -> Flow[Result | None]:
    """Read a task's result; None while it goes on. NotOpened where it is encrypted for others."""
    values = yield from fields(task_id, keys, record.RESULT_FIELDS)
    return record.read_result(task_id, values, Box(keyring, task_id))


def log_page(task_id: str, keys: Keys, seen: Reassembler) -> Flow[list[Event]]:
    """Read the next page of the log behind the cursor; it may be empty.

    TaskNotFound where there is no such task; CursorExpired where the log has lost what follows;
    NotOpened where it is encrypted for others.
    """
    page, landmarks = yield from _page(task_id, keys, seen)
    seen.behind = len(page) == PAGE
    if not seen.recognize(landmarks):
        return []
    if not page:
        yield from _stand(task_id, keys, seen)
    return seen.read(page)


def over(seen: Reassembler, until: Until) -> bool:
    """Tell whether a subscription has come to its task's ending, or its time is up."""
    return seen.ended or until.past


def sent(script: Script, *commands: Command) -> Flow[Sequence[Any]]:
    """Send commands, some of which call this script; return their replies, or raise an error.

    Where Redis does not know the script they are sent once more, all of them: each may come twice.
    """
    replies = yield Batch(commands)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        replies = (yield Batch((script.load, *commands)))[1:]
    return raise_error(replies)


def fields(task_id: str, keys: Keys, names: Sequence[str]) -> Flow[list[bytes | None]]:
    """Read fields of a record."""
    replies = yield Batch((("HMGET", keys.record(task_id), *names),))
    values: list[bytes | None] = raise_error(replies)[0]
    return values


def ring_commands(bells: Sequence[Bell]) -> tuple[Command, ...]:
    """Write the commands that ring doorbells on a Redis, one a queue."""
    return tuple(_merged([ring(*bell) for bell in bells], 2))


def ring_elsewhere(bells: tuple[Bell, ...], keys: Keys) -> Flow[None]:
    """Ring doorbells where the queues are elsewhere than the records.

    What could not be rung is noted as never rung. By its date alone it could not be told from what
    waits in a long queue, and would be rung for as much later as it is late already.
    """
    unrung = yield Rings(bells)
    if unrung:
        # Where that fails as well, it is rung for later.
        yield Batch(tuple(("HSET", keys.record(bell.task_id), "rung_at", 0) for bell in unrung))


def raise_error(replies: Sequence[Any]) -> Sequence[Any]:
    """Return the replies of a batch; raise the first that is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


def _page(
    task_id: str, keys: Keys, seen: Reassembler
) -> Flow[tuple[list[bytes], list[bytes | None]]]:
    """Read a page, and the landmarks that tell whether the log is still the one that was read."""
    log = keys.events(task_id)
    page: Command = ("XRANGE", log, seen.log_start, "+", "COUNT", PAGE)
    marks: list[Command] = [("XRANGE", log, mark, mark) for mark in seen.landmarks]
    entries, *found = raise_error((yield Batch((page, *marks))))
    return [_event_of(entry) for entry in entries], [
        _event_of(one[0]) if one else None for one in found
    ]


def _stand(task_id: str, keys: Keys, seen: Reassembler) -> Flow[None]:
    """Tell where the log ends, and whether the task has: in this order, so that the log has it."""
    state: Command = ("HMGET", keys.record(task_id), "state")
    last: Command = ("XREVRANGE", keys.events(task_id), "+", "-", "COUNT", 1)
    (word,), entries = raise_error((yield Batch((state, last))))
    if word is None:
        raise record.not_found(task_id)
    ended = State(word.decode()).ended
    seen.stand(task_id, _event_of(entries[0]) if entries else None, ended=ended)


def _event_of(entry: Any) -> bytes:
    """Take the event out of a log entry, which redis-py gives as id and dict, or as raw list."""
    pairs = entry[1]
    event: bytes = pairs[_FIELD] if isinstance(pairs, dict) else pairs[1]
    return event


def _enqueued(
    pairs: Sequence[Submitted],
    keys: Keys,
    now_ms: int,
    protection: Protection,
    *,
    one_redis: bool,
) -> Flow[list[str | RouterWorkerError]]:
    """Put tasks on record; return the id that each is known by, or why it was refused."""
    pairs = yield from _owned(pairs, keys, now_ms, protection)
    dues = _merged([commands.due for _, commands in pairs], 3)
    script = _CREATE.on(keys)
    creates = [script.call(one.create_keys, *one.create_arguments) for _, one in pairs]
    bells = tuple(commands.bell for _, commands in pairs)
    rings = ring_commands(bells) if one_redis else ()
    replies = yield from sent(script, *dues, *creates, *rings)
    words = list(replies[len(dues) : len(dues) + len(creates)])
    if not one_redis:
        yield from ring_elsewhere(bells, keys)
    if protection.keyring and b"other" in words:
        words = yield from _looked_at_again(pairs, words, keys, protection.keyring)
    return [
        _refusal(task) if word == b"other" else task.id
        for (task, _), word in zip(pairs, words, strict=True)
    ]


def _looked_at_again(
    pairs: Sequence[Submitted], words: list[Any], keys: Keys, keyring: Keyring
) -> Flow[list[Any]]:
    """Find the same content among the others: with a digest by an older key, or by none."""
    others = [place for place, word in enumerate(words) if word == b"other"]
    tasks = [pairs[place][0] for place in others]
    asked = tuple(("HGET", keys.record(task.id), "digest") for task in tasks)
    known = raise_error((yield Batch(asked)))
    for place, task, digest in zip(others, tasks, known, strict=True):
        if asks_the_same(task, digest, keyring):
            words[place] = b"same"
    return words


def _owned(
    pairs: Sequence[Submitted], keys: Keys, now_ms: int, protection: Protection
) -> Flow[Sequence[Submitted]]:
    """Give each task the id under which its idempotency key is known, if it has one that is."""
    asked = [(place, key_commands(task, keys)) for place, (task, _) in enumerate(pairs)]
    asked = [(place, commands) for place, commands in asked if commands]
    if not asked:
        return pairs
    replies = raise_error((yield Batch(tuple(one for _, both in asked for one in both))))
    owned = list(pairs)
    for (place, _), known in zip(asked, replies[1::2], strict=True):
        task = pairs[place][0]
        if (known_id := known.decode()) != task.id:
            task = task.model_copy(update={"id": known_id})
            owned[place] = (task, submission(task, keys, now_ms, protection))
    return owned


def _together(pairs: Sequence[Submitted]) -> Iterator[list[Submitted]]:
    """Split tasks into those that are sent in one round trip."""
    some: list[Submitted] = []
    size = 0
    for pair in pairs:
        some.append(pair)
        size += len(pair[1].body)
        if len(some) == TOGETHER or size >= TOGETHER_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _merged(commands: list[Command], head: int) -> list[Command]:
    """Make one command of those that begin with the same ``head`` parts, in their order."""
    if len(commands) == 1:
        return commands
    by_head: dict[Command, list[Argument]] = {}
    for command in commands:
        by_head.setdefault(command[:head], []).extend(command[head:])
    return [(*begin, *rest) for begin, rest in by_head.items()]


def _refusal(task: Task) -> RouterWorkerError:
    """Say whose content is already on record under this id."""
    if task.options.idempotency_key is not None:
        return IdempotencyConflict(task.id)
    return TaskExists(task.id)
