"""Records, leases and logs: what an attempt reads and writes of its task.

Every write of an attempt passes a script that first checks that the attempt is still the
writer's (``lua/*.lua``); the rules stand there. Here they get their arguments.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from enum import Enum
from itertools import chain, count
from typing import Any, Final, TypeVar
from uuid import uuid4

from redis.exceptions import RedisError, ResponseError

from api_contracts.client.box import Box
from api_contracts.client.keyring import NO_KEYS, Keyring
from api_contracts.client.protection import Protection
from api_contracts.client.submission import (
    RING_AGAIN_MS,
    Submission,
    asks_the_same,
    key_commands,
    submission,
)
from api_contracts.errors import ErrorCode, TaskError
from api_contracts.events import Failed
from api_contracts.names import Keys, Queue, State
from api_contracts.requests import Task
from worker.claim import Claim, NotClaimed, read_claim
from worker.store.duties import Duties
from worker.store.link import Link, full

#: How long the refusal of a foreign producer's task stays, in seconds: a day, as results do.
REFUSAL_TTL_S: Final = 86_400
#: How Redis refuses to write where somebody has put another type, or later entries.
_SPOILT_WORDS: Final = ("WRONGTYPE", "XADD")
#: What is said of a task whose record or log is none of ours.
SPOILT: Final = "Redis refuses to write the task's log: somebody else has written there."
#: How long a dead letter stays, in seconds: a week, for somebody to come back from holiday.
DEAD_TTL_S: Final = 7 * 86_400
#: As much of a parked message as is kept, in bytes: enough to see who sent it.
PARK_LIMIT: Final = 64 * 1024
#: How long the channel of cancellations is listened to in one go, in seconds: then redis-py
#: asks whether the connection lives.
SILENCE_S: Final = 15.0


Value = TypeVar("Value")


class Refusal(Enum):
    """What became of a refusal."""

    NEW = "it is on record now"
    KNOWN = "it was on record, from the same message that came twice"
    TAKEN = "the id is another task's"


class Store:
    """The worker's side of the record. Every method may raise one of :attr:`errors`."""

    #: What Redis raises: it refuses, or it stays away while the worker ends.
    errors: Final = (RedisError, OSError)

    def __init__(  # noqa: PLR0913, PLR0917 - the servers, and what is the same in every write
        self,
        url: str,
        broker_url: str,
        keys: Keys,
        worker: str,
        lease_ms: int,
        keyring: Keyring = NO_KEYS,
    ) -> None:
        """Prepare; call from the loop that will use it."""
        self._keys = keys
        self._worker = worker
        self._lease_ms = lease_ms
        #: Encrypts what tasks say.
        self.keyring = keyring
        self._protection = Protection(keyring)
        self.link = Link(url, broker_url, keys)
        self.pump = self.link.pump
        self.duties = Duties(self.link)
        # Of its own each would need the kernel's random numbers: 18 µs.
        process = uuid4().hex
        self._tokens = (f"{process}-{number}" for number in count())
        #: Events and endings that Redis refused, since the attempt was another's by then.
        self.fenced = 0

    async def claim(self, task_id: str, if_expired: str, if_spoilt: str = "") -> Claim | NotClaimed:
        """Ask for a task; see ``claim.lua``.

        ``if_expired`` and ``if_spoilt`` name what is to be counted where the claim ends it so.

        When its lease ends is noted before: a task that has waited for an hour is not due to be
        looked at for another, and we may die before the first heartbeat.
        """
        token = next(self._tokens)
        command = self.link.script(
            "claim", task_id, self._worker, token, self._lease_ms, if_expired
        )
        watched = self.duties.watch_by(task_id, int(time.time() * 1000) + self._lease_ms)
        try:
            await self.link.in_order(watched)
            _, reply = await asyncio.gather(watched, self.pump.ask(*command))
        except ResponseError as error:
            if not any(word in str(error) for word in _SPOILT_WORDS):
                raise
            await self._spoilt(task_id, if_spoilt)
            return NotClaimed.SPOILT
        return read_claim(task_id, reply)

    async def _spoilt(self, task_id: str, uncounted: str) -> None:
        """End a task whose record or log somebody has spoilt, as far as Redis lets us."""
        key, now_ms = self._keys.record(task_id), int(time.time() * 1000)
        error = TaskError(code=ErrorCode.INTERNAL, message=SPOILT, retryable=False)
        written = {
            "state": State.FAILED, "error": error.model_dump_json(), "ended_at": now_ms,
            "uncounted": uncounted,
        }  # fmt: skip
        commands = (
            ("HSET", key, *chain.from_iterable(written.items())),
            ("EXPIRE", key, REFUSAL_TTL_S),
            ("EXPIRE", self._keys.events(task_id), REFUSAL_TTL_S),
        )
        asked = (self.pump.ask(*command) for command in commands)
        await asyncio.gather(*asked, return_exceptions=True)

    async def create(self, task: Task, now_ms: int) -> tuple[str, bool]:
        """Write the record of a foreign producer's task.

        Returns the id that it is known by, which is another's where its idempotency key is, and
        whether the task on record under that id is the same. InvalidTask where it can be none.
        Its body may have 32 MiB: it is written as JSON in a thread, since no stream would move
        meanwhile.
        """
        commands = await self._submission(task, now_ms)
        owner = task.id
        if asked := key_commands(task, self._keys):
            _, named = await asyncio.gather(*(self.pump.ask(*command) for command in asked))
            owner = named.decode()
        if owner != task.id:
            task = task.model_copy(update={"id": owner})
            commands = await self._submission(task, now_ms)
        due = self.pump.ask(*commands.due)
        await self.link.in_order(due)
        made = self.pump.ask("EVALSHA", self.link.shas["create"], *commands.create_with_keys)
        _, word = await asyncio.gather(due, made)
        return owner, word != b"other" or await self._asks_the_same(task)

    async def _submission(self, task: Task, now_ms: int) -> Submission:
        return await asyncio.to_thread(submission, task, self._keys, now_ms, self._protection)

    async def _asks_the_same(self, task: Task) -> bool:
        """Look again at a task on record with another digest: it may be by an older key."""
        if not self.keyring:
            return False
        known = await self.pump.ask("HGET", self._keys.record(task.id), "digest")
        return await asyncio.to_thread(asks_the_same, task, known, self.keyring)

    async def refuse(
        self, task_id: str, kind: str, error: TaskError, now_ms: int, count: str
    ) -> Refusal:
        """Write a record that only says why a task was refused, unless the id is taken.

        ``count`` names what is to be counted then.
        """
        fields = ("kind", kind, "queue", Queue.INTERACTIVE, "result_ttl", REFUSAL_TTL_S)
        create = self.link.script("create", task_id, "", "", *fields)
        due = self.pump.ask("ZADD", self._keys.due, "NX", now_ms + RING_AGAIN_MS, task_id)
        await self.link.in_order(due)
        _, word = await asyncio.gather(due, self.pump.ask(*create))
        if word == b"other":
            return Refusal.TAKEN
        if word == b"same" and await self._known(task_id):
            return Refusal.KNOWN
        text = error.model_dump_json(exclude_none=True)
        ending = Failed(id="0-2", task_id=task_id, at=now_ms, error=error)
        event = ending.model_dump_json(exclude_none=True).encode()
        written: dict[str, str | int | bytes] = {
            "error": text, "ended_at": now_ms, "uncounted": count,
        }  # fmt: skip
        if not await self.settle(task_id, "0-2", "", event, State.FAILED, written, REFUSAL_TTL_S):
            # Claimed meanwhile: it was a task without a word on its content.
            return Refusal.TAKEN
        await self.duties.over(task_id, count)
        return Refusal.NEW

    async def _known(self, task_id: str) -> bool:
        """Tell whether a refusal is on record already; it is over then."""
        key = self._keys.record(task_id)
        state, uncounted = await self.pump.ask("HMGET", key, "state", "uncounted")
        over = state is not None and State(state.decode()).ended
        if over and uncounted is None:
            await self.duties.over(task_id, "")
        # Else whoever refused it has died before he counted it: the reaper does.
        return over

    async def park(self, queue: str, message: bytes, error: TaskError, now_ms: int) -> None:
        """Keep what was no message as a dead letter: its beginning, and why."""
        letter = str(uuid4())
        key = self._keys.record(letter)
        fields = (
            "state", State.FAILED, "kind", "message", "queue", queue, "attempt", 0,
            "failures", 0, "created_at", now_ms, "ended_at", now_ms,
            "error", error.model_dump_json(exclude_none=True),
            "message", Box(self.keyring, letter).seal("message", message[:PARK_LIMIT]),
        )  # fmt: skip
        kept = self.pump.ask("HSET", key, *fields), self.pump.ask("EXPIRE", key, DEAD_TTL_S)
        await asyncio.gather(*kept, self.bury(letter, now_ms))

    async def settle(  # noqa: PLR0913, PLR0917 - what one script writes
        self,
        task_id: str,
        event_id: str,
        token: str,
        event: bytes,
        state: State,
        fields: Mapping[str, str | int | bytes],
        ttl_s: int | None,
    ) -> bool:
        """End an attempt with this event; False where it is no longer ours.

        ``token`` is the claim's. ``ttl_s`` is None where another attempt follows. A whole answer
        needs its request no more.
        """
        pairs = [part for pair in fields.items() for part in pair]
        forget = "request" if state is State.COMPLETED else ""
        stay = "" if ttl_s is None else ttl_s
        written = (event_id, token, event, state, stay, forget, *pairs)
        reply = await self.pump.ask(*self.link.script("settle", task_id, *written))
        self.fenced += not reply
        return bool(reply)

    async def bury(self, task_id: str, now_ms: int) -> None:
        """Put a task among the dead letters; those whose time is over leave."""
        dead = self._keys.dead
        commands = (
            ("ZADD", dead, now_ms, task_id),
            ("ZREMRANGEBYSCORE", dead, "-inf", now_ms - DEAD_TTL_S * 1000),
            ("EXPIRE", dead, DEAD_TTL_S),
        )
        await asyncio.gather(*(self.pump.ask(*command) for command in commands))

    async def cancelled_meanwhile(self, task_id: str) -> tuple[bool, bool]:
        """Tell whether a task was cancelled, and whether that is still to be counted."""
        key = self._keys.record(task_id)
        state, uncounted = await self.pump.ask("HMGET", key, "state", "uncounted")
        return state == State.CANCELLED.encode(), uncounted is not None

    async def cancelled(self) -> AsyncIterator[str]:
        """Yield the ids of tasks that are cancelled while they run, as it happens.

        A signal may be lost with its connection: the heartbeat is the net under it.
        """
        async with self.link.beside.anybody().pubsub() as channel:
            await channel.subscribe(self._keys.cancel)
            while True:
                message = await channel.get_message(
                    ignore_subscribe_messages=True, timeout=SILENCE_S
                )
                if message is not None:
                    yield message["data"].decode(errors="replace")

    def shares(self, held: Mapping[str, Value]) -> dict[object, dict[str, Value]]:
        """Part what is held, by task id, among the servers that have the tasks."""
        shares: dict[object, dict[str, Value]] = {}
        for task_id, value in held.items():
            shares.setdefault(self.link.server_of(task_id), {})[task_id] = value
        return shares

    async def renew(self, attempts: Iterable[tuple[str, str]]) -> list[str]:
        """Prolong the leases of these ids and tokens in one round trip.

        Return the ids that are no longer ours.
        """
        held = list(attempts)
        replies = await asyncio.gather(
            *(
                self.pump.ask(
                    "EVALSHA", self.link.shas["renew"], 1, self._keys.record(task_id), token,
                    self._lease_ms,
                )
                for task_id, token in held
            ),
            return_exceptions=True,
        )  # fmt: skip
        ends = {task_id: _renewed(end) for (task_id, _), end in zip(held, replies, strict=True)}
        await self.duties.watch({task_id: end for task_id, end in ends.items() if end})
        return [task_id for task_id, end in ends.items() if not end]

    def record(self, task_id: str) -> str:
        """Return the key of a task's record."""
        return self._keys.record(task_id)


def _renewed(reply: Any) -> int:
    """Read a lease's new end; a record that Redis refuses to renew is no longer ours."""
    if isinstance(reply, ResponseError) and not full(reply):
        return 0
    if isinstance(reply, BaseException):
        raise reply
    return int(reply)
