"""Dead letters: what an operator may look at, replay or drop. Flows, as in :mod:`.flows`.

``rw:dead`` says which there are, and since when. A worker writes an id there before the record
says that the task has failed, and takes nothing off: so an entry whose record is no dead letter
is stale, or very new. What is stale is left out here, and struck off once it is surely not new.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from api_contracts.client import record
from api_contracts.client.box import Box
from api_contracts.client.flows import (
    Batch,
    Command,
    Flow,
    fields,
    raise_error,
    ring_commands,
    ring_elsewhere,
    sent,
)
from api_contracts.client.keyring import NO_KEYS, Keyring
from api_contracts.client.scripts import Script
from api_contracts.client.submission import RING_AGAIN_MS, Bell
from api_contracts.errors import NotDead, RouterWorkerError
from api_contracts.names import Keys, State
from api_contracts.requests import CELERY_TASKS
from api_contracts.results import DeadLetter

#: Letters read at once: some hundred KiB, and some ms of Redis's time.
PAGE: Final = 100
#: Age at which an entry without its letter is stale, in ms: far above the time between a worker's
#: writing of the index and of the record, and the difference between clocks.
STALE_MS: Final = 600_000

_REPLAY, _DROP, _STRIKE = (Script.named(name) for name in ("replay", "drop", "strike"))


class _Head(NamedTuple):
    """What a record says of itself, as :data:`~.record.LETTER_FIELDS`, and all names in it."""

    values: Sequence[bytes | None]
    names: Sequence[bytes]

    @property
    def body(self) -> str | None:
        """Name of the field with the letter's body; None where this is no dead letter."""
        if not self.values or self.values[0] != State.FAILED.encode():
            return None
        name = "message" if self.values[1] == record.MESSAGE.encode() else "request"
        return name if name.encode() in self.names else None


class _Entry(NamedTuple):
    """A place in the index: the letter's id, and when it died, in unix ms."""

    id: bytes
    at: float


def letters(
    keys: Keys, limit: int, before: DeadLetter | None, now_ms: int, keyring: Keyring = NO_KEYS
) -> Flow[list[DeadLetter]]:
    """Read that many letters, the newest first; those that died before one where it is given."""
    found: list[DeadLetter] = []
    stale: list[bytes | float] = []
    start, skip = "+inf" if before is None else repr(float(before.ended_at)), 0
    while len(found) < limit:
        page = yield from _page(keys, start, skip)
        entries = page if before is None else [one for one in page if _is_behind(one, before)]
        for entry, letter in zip(entries, (yield from _read(keys, entries, keyring)), strict=True):
            if letter is not None:
                found.append(letter)
            elif entry.at < now_ms - STALE_MS:
                stale += entry
        if len(page) < PAGE:
            break
        last = repr(page[-1].at)
        skip = sum(repr(one.at) == last for one in page) + (skip if last == start else 0)
        start = last
    if stale:
        # Who may only look leaves them to somebody else.
        with suppress(NoPermissionError):
            yield from sent(_STRIKE, _STRIKE.call((keys.dead,), *stale))
    return found[:limit]


def letter(letter_id: str, keys: Keys, keyring: Keyring = NO_KEYS) -> Flow[DeadLetter]:
    """Read one; NotDead where the task is none, TaskNotFound where there is no record."""
    at = yield from _index(letter_id, keys)
    (found,) = yield from _read(keys, [_Entry(letter_id.encode(), at or 0.0)], keyring)
    if found is None:
        (state,) = yield from fields(letter_id, keys, ("state",))
        raise _refusal(letter_id, state)
    return found


def body(letter_id: str, keys: Keys, keyring: Keyring = NO_KEYS) -> Flow[bytes]:
    """Read what the others leave out: a task's request, or the beginning of a message.

    NotDead and TaskNotFound as :func:`letter`; NotOpened where it is encrypted for others.
    """
    names = ("state", "request", "message")
    state, request, message = yield from fields(letter_id, keys, names)
    name, kept = ("message", message) if request is None else ("request", request)
    if state != State.FAILED.encode() or kept is None:
        raise _refusal(letter_id, state)
    return Box(keyring, letter_id).open(name, kept)


def replay(task_id: str, keys: Keys, now_ms: int, *, one_redis: bool) -> Flow[None]:
    """Queue a dead letter again; see ``replay.lua``. Its deadlines do not count any more.

    NotDead where the task has not failed, or has nothing that could be sent; TaskNotFound where
    there is no record.
    """
    # When it died comes first: should somebody else replay it now, and it die again, that is
    # another letter, which stays.
    at = yield from _index(task_id, keys)
    names = ("state", "kind", "queue", "replays")
    state, kind, queue, replays = yield from fields(task_id, keys, names)
    if state != State.FAILED.encode():
        raise _refusal(task_id, state)
    known = {name.encode(): name for name in CELERY_TASKS}
    if kind not in known:
        message = f"dead letter {task_id} cannot be replayed: it was no task of ours"
        raise NotDead(message)
    script = _REPLAY.on(keys)
    call = script.call(
        (keys.record(task_id), keys.events(task_id)),
        task_id, keys.live(task_id), replays or b"",
    )  # fmt: skip
    due = ("ZADD", keys.due, now_ms + RING_AGAIN_MS, task_id)
    _, word = yield from sent(script, due, call)
    if word != b"replayed":
        raise _refusal(task_id, None if word == b"missing" else word)
    # Struck off before anybody is woken, and only as it stood: it may die again at once.
    strike = _STRIKE.call((keys.dead,), *(() if at is None else (task_id, at)))
    bells = (Bell(task_id, known[kind], record.read_queue(queue), now_ms),)
    # Whoever counts its old ending may just have taken it off the list.
    yield from sent(_STRIKE, due, strike, *(ring_commands(bells) if one_redis else ()))
    if not one_redis:
        yield from ring_elsewhere(bells, keys)


def drop(letter_id: str, keys: Keys) -> Flow[None]:
    """Let go of a dead letter; see ``drop.lua``. NotDead and TaskNotFound as :func:`letter`."""
    call = _DROP.call((keys.record(letter_id), keys.events(letter_id)))
    (word,) = yield from sent(_DROP, call)
    if word in (b"dropped", b"missing"):
        raise_error((yield Batch((("ZREM", keys.dead, letter_id),))))
    if word != b"dropped":
        raise _refusal(letter_id, None if word == b"missing" else word)


def _page(keys: Keys, start: str, skip: int) -> Flow[list[_Entry]]:
    """Read a page of the index, from a moment backwards."""
    command: Command = (
        "ZRANGE", keys.dead, start, "-inf", "BYSCORE", "REV", "LIMIT", skip, PAGE, "WITHSCORES",
    )  # fmt: skip
    (reply,) = raise_error((yield Batch((command,))))
    # Pairs by RESP3; by RESP2, one after the other.
    pairs = reply if reply and isinstance(reply[0], list) else zip(*[iter(reply)] * 2, strict=True)
    return [_Entry(letter_id, float(at)) for letter_id, at in pairs]


def _is_behind(entry: _Entry, letter: DeadLetter) -> bool:
    """Tell whether an entry comes after a letter, as Redis sorts them backwards."""
    return (entry.at, entry.id) < (letter.ended_at, letter.id.encode())


def _index(letter_id: str, keys: Keys) -> Flow[float | None]:
    """Read when a letter died; None where the index does not have it."""
    (at,) = raise_error((yield Batch((("ZSCORE", keys.dead, letter_id),))))
    return None if at is None else float(at)


def _read(keys: Keys, entries: Sequence[_Entry], keyring: Keyring) -> Flow[list[DeadLetter | None]]:
    """Read the letters of these entries; None for each that has none."""
    ids = [entry.id.decode(errors="replace") for entry in entries]
    heads = yield from _heads([keys.record(one) for one in ids])
    commands: list[Command] = []
    for one, head in zip(ids, heads, strict=True):
        if head.body is not None:
            calls = record.attempt_fields(head.names)
            commands.append(("HSTRLEN", keys.record(one), head.body))
            commands.append(("HMGET", keys.record(one), "state", *calls))
    rest = iter(raise_error((yield Batch(tuple(commands)))) if commands else ())
    return [
        None
        if head.body is None
        else record.read_letter(
            letter_id,
            entry.at,
            head.values,
            Box(keyring, letter_id),
            size=next(rest),
            attempts=next(rest)[1:],
        )
        for letter_id, entry, head in zip(ids, entries, heads, strict=True)
    ]


def _heads(places: Sequence[str]) -> Flow[list[_Head]]:
    """Read what these records say of themselves."""
    if not places:
        return []
    asked = [("HMGET", place, *record.LETTER_FIELDS) for place in places]
    replies = yield Batch((*asked, *(("HKEYS", place) for place in places)))
    known = [_or_nothing(reply) for reply in replies]
    pairs = zip(known[: len(places)], known[len(places) :], strict=True)
    return [_Head(values, names) for values, names in pairs]


def _or_nothing(reply: Any) -> list[Any]:
    """Take what is no record, whatever somebody has put in its place, for one without fields."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return []
    if isinstance(reply, RedisError):
        raise reply
    return list(reply)


def _refusal(letter_id: str, state: bytes | None) -> RouterWorkerError:
    """Say why a task is no dead letter that could be looked at, replayed or dropped."""
    if state is None:
        return record.not_found(letter_id)
    if state == State.FAILED.encode():
        return NotDead(f"task {letter_id} is no dead letter: its request was not kept")
    word = state[:20].decode(errors="replace")
    return NotDead(f"task {letter_id} is no dead letter: its state is {word!r}")
