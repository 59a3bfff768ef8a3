"""Records, leases and logs: the only place in the worker that speaks to Redis.

Every write of an attempt passes a script that first checks that the attempt is still the
writer's (``lua/*.lua``); the rules stand there. Here they get their arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client.connection import connection_options
from api_contracts.client.submission import CREATE, RING_AGAIN_MS, ring, rung_at, submission
from api_contracts.errors import TaskError
from api_contracts.events import EVENT_LIMIT, Failed
from api_contracts.names import Keys, Queue, State
from api_contracts.requests import Task
from worker.claim import Claim, NotClaimed, read_claim
from worker.look import Look, Word, read_look
from worker.pump import Command, Pump

#: Longest wait for a pipeline's replies, in seconds.
TIMEOUT_S = 5.0
#: How long the refusal of a foreign producer's task stays, in seconds: a day, as results do.
REFUSAL_TTL_S: Final = 86_400
#: How long a dead letter stays, in seconds: a week, for somebody to come back from holiday.
DEAD_TTL_S: Final = 7 * 86_400
#: As much of a parked message as is kept, in bytes: enough to see who sent it.
PARK_LIMIT: Final = 64 * 1024
#: A task that was taken is due again after this time, in ms, should its taker die.
TAKEN_MS: Final = 10_000
#: How long the timer of a retry may take to ring before somebody else does, in ms.
TIMER_GRACE_MS: Final = 2_000
#: Errors of the connection, not of a command: the batch is sent again.
TRANSIENT: Final = (RedisConnectionError, RedisTimeoutError, OSError)

_SOURCES: Final = {
    name: files(__package__).joinpath(f"lua/{name}.lua").read_text()
    for name in ("claim", "append", "settle", "renew", "take", "look")
} | {"create": CREATE}
_SHAS: Final = {
    name: sha1(source.encode(), usedforsecurity=False).hexdigest()
    for name, source in _SOURCES.items()
}


class Writer:
    """Appends one attempt's events, in order, without waiting; learns when it must not.

    :attr:`lost` is set once Redis says that the attempt is another's, or takes no more.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        """Begin behind the ``started`` event."""
        self._store = store
        self.claim = claim
        self.task_id = claim.task_id.encode()
        self.attempt = claim.attempt
        self.seq = 0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._open: _Append | None = None

    def lose(self, error: Exception | None) -> None:
        """Note that the attempt is another's, or that Redis refuses it with this error."""
        if not self.lost.done():
            self.lost.set_result(error)

    def append(self, event: bytes) -> None:
        """Leave the next event; its id is ``attempt-seq`` with :attr:`seq` after this call."""
        self.seq += 1
        batch = self._open
        if batch is None or batch.sent:
            batch = self._open = _Append(self, self.seq)
            self._store.pump.leave(batch)
        batch.events.append(event)


class _Append:
    """Events of one attempt on their way: one call of ``append.lua``."""

    __slots__ = ("_first", "_writer", "events", "sent")

    def __init__(self, writer: Writer, first: int) -> None:
        self._writer = writer
        self._first = first
        self.events: list[bytes] = []
        self.sent = False

    def command(self) -> Command:
        self.sent = True
        claim = self._writer.claim
        return self._writer._store.script(  # noqa: SLF001 - the writer's own half
            "append", claim.task_id, claim.attempt, self._first, EVENT_LIMIT, *self.events
        )

    def replied(self, reply: Any) -> None:
        if reply != 1:
            self._writer.lose(reply if isinstance(reply, Exception) else None)


class Store:
    """The worker's side of the record. Every method may raise one of :attr:`errors`."""

    #: What Redis raises: it is away for longer than the pump tries, or it refuses.
    errors: Final = (RedisError, OSError)

    def __init__(self, url: str, broker_url: str, keys: Keys, worker: str, lease_ms: int) -> None:
        """Prepare; call from the loop that will use it."""
        self._keys = keys
        self._worker = worker
        self._lease_ms = lease_ms
        self._redis = connect(url)
        self._broker = self._redis if url == broker_url else connect(broker_url)
        self.pump = Pump(self._send, TRANSIENT)

    async def claim(self, task_id: str) -> Claim | NotClaimed:
        """Ask for a task; see ``claim.lua``."""
        token = str(uuid4())
        command = self.script("claim", task_id, self._worker, token, self._lease_ms)
        return read_claim(task_id, await self.pump.ask(*command))

    async def create(self, task: Task, now_ms: int) -> bool:
        """Write the record of a foreign producer's task; False where the id is another's.

        InvalidTask where it can be no record's. Its body may have 32 MiB: it is written as JSON
        in a thread, since no stream would move meanwhile.
        """
        commands = await asyncio.to_thread(submission, task, self._keys, now_ms)
        due = self.pump.ask(*commands.due)
        made = self.pump.ask("EVALSHA", _SHAS["create"], *commands.create_with_keys)
        _, word = await asyncio.gather(due, made)
        return bool(word != b"other")

    async def refuse(self, task_id: str, kind: str, error: TaskError, now_ms: int) -> bool:
        """Write a record that only says why a task was refused; False where the id is taken."""
        fields = ("kind", kind, "queue", Queue.INTERACTIVE, "result_ttl", REFUSAL_TTL_S)
        create = self.script("create", task_id, "", "", *fields)
        due = self.pump.ask("ZADD", self._keys.due, "NX", now_ms + RING_AGAIN_MS, task_id)
        _, word = await asyncio.gather(due, self.pump.ask(*create))
        if word == b"other":
            return False
        text = error.model_dump_json(exclude_none=True)
        ending = Failed(id="0-2", task_id=task_id, at=now_ms, error=error)
        event = ending.model_dump_json(exclude_none=True).encode()
        written: dict[str, str | int | bytes] = {"error": text, "ended_at": now_ms}
        ours = await self.settle(task_id, "0-2", event, State.FAILED, written, REFUSAL_TTL_S)
        if ours:
            await self.forget(task_id)
        return ours

    async def park(self, queue: str, message: bytes, error: TaskError, now_ms: int) -> None:
        """Keep what was no message as a dead letter: its beginning, and why."""
        letter = str(uuid4())
        key, dead = self._keys.record(letter), self._keys.dead
        fields = (
            "state", State.FAILED, "kind", "message", "queue", queue, "attempt", 0,
            "failures", 0, "created_at", now_ms, "ended_at", now_ms,
            "error", error.model_dump_json(exclude_none=True), "message", message[:PARK_LIMIT],
        )  # fmt: skip
        commands = (
            ("HSET", key, *fields),
            ("EXPIRE", key, DEAD_TTL_S),
            ("ZADD", dead, now_ms, letter),
            ("EXPIRE", dead, DEAD_TTL_S),
        )
        await asyncio.gather(*(self.pump.ask(*command) for command in commands))

    async def settle(  # noqa: PLR0913, PLR0917 - what one script writes
        self,
        task_id: str,
        event_id: str,
        event: bytes,
        state: State,
        fields: Mapping[str, str | int | bytes],
        ttl_s: int | None,
    ) -> bool:
        """End an attempt with this event; False where it is no longer ours.

        ``ttl_s`` is None where another attempt follows. A whole answer needs its request no more.
        """
        pairs = [part for pair in fields.items() for part in pair]
        forget = "request" if state is State.COMPLETED else ""
        stay = "" if ttl_s is None else ttl_s
        reply = await self.pump.ask(
            *self.script("settle", task_id, event_id, event, state, stay, forget, *pairs)
        )
        return bool(reply)

    async def renew(self, attempts: Iterable[tuple[str, int]]) -> list[str]:
        """Prolong these leases in one round trip; return the ids that are no longer ours."""
        held = list(attempts)
        replies = await asyncio.gather(
            *(
                self.pump.ask(
                    "EVALSHA", _SHAS["renew"], 1, self._keys.record(task_id), attempt,
                    self._lease_ms,
                )
                for task_id, attempt in held
            ),
            return_exceptions=True,
        )  # fmt: skip
        ends = {task_id: _renewed(end) for (task_id, _), end in zip(held, replies, strict=True)}
        await self.watch({task_id: end for task_id, end in ends.items() if end})
        return [task_id for task_id, end in ends.items() if not end]

    async def watch(self, due: Mapping[str, int]) -> None:
        """Note when somebody must look after these tasks: unix ms by id."""
        if due:
            pairs = [part for task_id, at in due.items() for part in (at, task_id)]
            await self.pump.ask("ZADD", self._keys.due, *pairs)

    async def forget(self, *task_ids: str) -> None:
        """Note that nobody needs to look after these tasks any more."""
        if task_ids:
            await self.pump.ask("ZREM", self._keys.due, *task_ids)

    async def take(self, limit: int) -> list[str]:
        """Take tasks that are due, that many at most: nobody else gets them for now."""
        ids = await self.pump.ask("EVALSHA", _SHAS["take"], 1, self._keys.due, limit, TAKEN_MS)
        return [task_id.decode(errors="replace") for task_id in ids]

    async def look(self, task_ids: Sequence[str]) -> list[Look]:
        """Say what is to be done for each of these tasks; see ``look.lua``."""
        if not task_ids:
            return []
        oldest = [await self._oldest(queue) for queue in (Queue.INTERACTIVE, Queue.BATCH)]
        replies = await asyncio.gather(
            *(
                self.pump.ask(
                    "EVALSHA", _SHAS["look"], 1, self._keys.record(task_id), *oldest,
                    RING_AGAIN_MS, TIMER_GRACE_MS,
                )
                for task_id in task_ids
            ),
            return_exceptions=True,
        )  # fmt: skip
        return [_looked(*one) for one in zip(task_ids, replies, strict=True)]

    async def _oldest(self, queue: Queue) -> int | str:
        """Tell when the oldest doorbell of a queue was rung, in unix ms."""
        message = await self._broker.lindex(queue, -1)
        return "empty" if message is None else rung_at(message) or "unknown"

    async def ring(self, task_id: str, kind: str, queue: str, due: int) -> None:
        """Ring a doorbell, and note when to look whether it was heard, in unix ms."""
        await self.watch({task_id: due})
        command = ring(task_id, kind, queue, due - RING_AGAIN_MS)
        if self._broker is self._redis:
            await self.pump.ask(*command)
        else:
            await self._broker.execute_command(*command)  # type: ignore[no-untyped-call]

    async def depths(self) -> dict[str, int]:
        """Return how many doorbells wait in each queue."""
        lengths = [await self._broker.llen(queue) for queue in Queue]
        return dict(zip(Queue, lengths, strict=True))

    async def ping(self) -> None:
        """Raise unless Redis answers, and the broker where it is another."""
        await self.pump.ask("PING")
        if self._broker is not self._redis:
            await self._broker.ping()

    async def close(self) -> None:
        """Close the connections; the pump must have ended."""
        await self._redis.aclose()
        if self._broker is not self._redis:
            await self._broker.aclose()

    def record(self, task_id: str) -> str:
        """Return the key of a task's record."""
        return self._keys.record(task_id)

    def script(self, name: str, task_id: str, *arguments: Any) -> Command:
        """Write the call of a script on one task's keys; its id and channel come first."""
        keys = self._keys
        return (
            "EVALSHA", _SHAS[name], 2, keys.record(task_id), keys.events(task_id),
            task_id, keys.live(task_id), *arguments,
        )  # fmt: skip

    async def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Send a batch; once more where Redis did not know a script, whole for its order's sake."""
        replies = await self._pipeline(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            for source in _SOURCES.values():
                await self._redis.script_load(source)
            replies = await self._pipeline(commands)
        return replies

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies


def connect(url: str) -> Redis:
    """Make a client for this loop. Two connections do: one for the pump, one beside it."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=4, timeout=TIMEOUT_S, **connection_options(TIMEOUT_S)
    )
    return Redis.from_pool(pool)


def _renewed(reply: Any) -> int:
    """Read a lease's new end; a record that Redis refuses to renew is no longer ours."""
    if isinstance(reply, ResponseError):
        return 0
    if isinstance(reply, BaseException):
        raise reply
    return int(reply)


def _looked(task_id: str, reply: Any) -> Look:
    """Read a look; what is no record, whatever somebody has put there, needs none."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return Look(task_id, Word.GONE)
    if isinstance(reply, BaseException):
        raise reply
    return read_look(task_id, reply)
