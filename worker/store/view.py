"""What an operator is shown of workers and tasks: read in five round trips, and never written.

However much is on record, so much is read and no more:

1. Of each queue, how many wait, and the oldest.
2. How many tasks are open and dead; the ids of those that are due soonest, of the letters that died
   last, and of the workers.
3. What each worker says of itself.
4. Of each task that a worker names, or that is due, the fields of its record that say how it
   stands; of each letter likewise.
5. Of those that run, how their stream goes.

How tasks are encrypted and signed is read when it is asked for.

Bodies and results are not among what is read: fields are asked for by name, and a script
tells of a log when its events came, not what they say. The server itself lets such a script only
read (``EVAL_RO``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from itertools import islice, zip_longest
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from api_contracts.client.brokers import BrokerAway, is_amqp, open_async_bells
from api_contracts.client.connection import (
    BACKOFF,
    TRIED_AGAIN,
    TRIES,
    Address,
    clear_errors,
    connection_options,
)
from api_contracts.client.links import AsyncCluster
from api_contracts.client.record import LETTER_FIELDS, count
from api_contracts.client.servers import Server, is_cluster, open_async
from api_contracts.errors import StoreUnavailable
from api_contracts.names import Queue, State
from worker import presence
from worker.intake import is_task_id
from worker.presence import Presence
from worker.store.link import TIMEOUT_S
from worker.store.pipe import Pipe
from worker.store.queues import DOORBELL_LIMIT, OLDEST

#: Workers that are looked at: those that gave a sign last.
WORKERS: Final = 200
#: Tasks that workers name which are looked at, and those that are due soonest. All in all a frame
#: takes 5 ms of Redis's time.
NAMED: Final = 500
DUE: Final = 500
#: Running tasks whose log is looked at: those that were enqueued first.
STREAMS: Final = 100
#: Dead letters that are looked at: those that died last.
LETTERS: Final = 50
#: So many chunks back is where a stream's pace is measured from: about a second of a usual one.
PACE_CHUNKS: Final = 20

#: Bytes that are read of what may be encrypted: its version, and the id of the key.
HEAD: Final = 5
#: Longest signature that is read.
SIGNATURE: Final = 256

#: Fields of a record that are read.
TASK_FIELDS: Final = (
    "state", "model", "attempt", "worker", "lease_until", "due_at", "created_at", "error",
)  # fmt: skip
_STATE, _ATTEMPT, _CREATED_AT = map(TASK_FIELDS.index, ("state", "attempt", "created_at"))
#: Fields of a dead letter that are read.
DEAD_FIELDS: Final = (*LETTER_FIELDS, "model")

_MARK, _STREAM = (
    files("worker").joinpath(f"lua/{name}.lua").read_text() for name in ("mark", "stream")
)

T = TypeVar("T")

Values = Sequence[bytes | None]
Command = tuple[Any, ...]
#: Sends commands in one round trip; errors are among the replies.
Ask = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of a worker: when it was given, in unix ms, and what it said if it can be read.

    Anybody may have written it.
    """

    worker: str
    at: float
    said: Presence | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: when it died, in unix ms, and its :data:`DEAD_FIELDS`."""

    id: str
    at: float
    fields: Values


@dataclass(frozen=True, slots=True)
class Mark:
    """How a task is protected: the head of what may be encrypted of it, and its signature, if any.

    Anybody may have written them.
    """

    head: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, as it stands there. Anybody may have written it."""

    #: Unix time in ms by the clock of Redis.
    now_ms: int
    #: By queue: how many messages wait, and the oldest, empty where it can be no doorbell, and on
    #: RabbitMQ.
    queues: Mapping[str, tuple[int, bytes]]
    #: When the first open task is due to be looked at, in unix ms; None where none is open.
    soonest_ms: float | None
    #: How many tasks are open, and how many are dead letters.
    open_tasks: int
    dead_letters: int
    signs: Sequence[Sign]
    #: By id: :data:`TASK_FIELDS`.
    tasks: Mapping[str, Values]
    #: By id: what ``stream.lua`` tells, of the running ones.
    streams: Mapping[str, Sequence[Any]]
    letters: Sequence[Letter]


class View:
    """Reads from the Redis of the records and from that of the queues."""

    def __init__(self, address: Address) -> None:
        """Prepare; call from the loop that will use it."""
        self._keys = address.keys
        rabbit = is_amqp(address.broker_url)
        self._bells = open_async_bells(address.broker_url, TIMEOUT_S) if rabbit else None
        urls = dict.fromkeys((address.url, address.broker_url))
        one_server = [url for url in urls if not is_amqp(url) and not is_cluster(url)]
        self._clients = [_connect(url) for url in one_server]
        self._pipes = [Pipe(client.connection_pool, TIMEOUT_S) for client in self._clients]
        self._cluster = _cluster(address.url) if is_cluster(address.url) else None
        self._records: Ask = self._cluster.ask if self._cluster else self._pipes[0].send
        self._queues: Ask = self._pipes[-1].send if self._pipes else self._records
        self._eval = "EVAL_RO"

    async def read(self) -> Reading:
        """Read it all; StoreUnavailable where Redis is away, or refuses."""
        return await self._tried(self._read)

    async def marks(self, task_ids: Iterable[str]) -> list[Mark]:
        """Read how these tasks are protected, in one round trip; raises as :meth:`read`."""
        return await self._tried(partial(self._read_marks, list(task_ids)))

    async def _tried(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read once more where the first time fails for a reason that passes."""
        with clear_errors():
            try:
                return await read()
            except (RedisConnectionError, OSError):
                # Once more on new connections: the old ones may just have been idle for too long.
                await self._disconnect()
            except ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                # Before version 7, Redis has no scripts that may only read.
                self._eval = "EVAL"
            try:
                return await read()
            except OSError as error:
                raise RedisConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._disconnect()
        for client in self._clients:
            await client.aclose()
        if self._cluster:
            await self._cluster.aclose()
        if self._bells is not None:
            await self._bells.aclose()

    async def _disconnect(self) -> None:
        for pipe in self._pipes:
            await pipe.disconnect()

    async def _read(self) -> Reading:
        keys = self._keys
        waiting = await self._waiting()
        now, open_tasks, dead_letters, due, dead, workers = await _ask(
            self._records,
            [
                ("TIME",),
                ("ZCARD", keys.due),
                ("ZCARD", keys.dead),
                ("ZRANGE", keys.due, 0, DUE - 1, "WITHSCORES"),
                ("ZRANGE", keys.dead, 0, LETTERS - 1, "REV", "WITHSCORES"),
                ("ZRANGE", keys.workers, 0, WORKERS - 1, "REV", "WITHSCORES"),
            ],
        )
        signs = await self._signs(_scored(workers))
        soonest = _scored(due)
        ids = chosen(signs, (one for one, _ in soonest))
        died = _scored(dead)
        records = await _ask(
            self._records,
            [("HMGET", keys.record(one), *TASK_FIELDS) for one in ids]
            + [("HMGET", keys.record(one), *DEAD_FIELDS) for one, _ in died],
        )
        tasks = {one: fields for one, fields in zip(ids, records, strict=False) if fields}
        letters = zip(died, records[len(ids) :], strict=True)
        return Reading(
            now_ms=int(now[0]) * 1000 + int(now[1]) // 1000,
            queues={
                queue: (0, b"") if one is None else (one[0], one[1])
                for queue, one in zip(Queue, waiting, strict=True)
            },
            soonest_ms=soonest[0][1] if soonest else None,
            open_tasks=open_tasks or 0,
            dead_letters=dead_letters or 0,
            signs=signs,
            tasks=tasks,
            streams=await self._streams(tasks),
            letters=[Letter(one, at, fields) for (one, at), fields in letters if fields],
        )

    async def _waiting(self) -> Sequence[Any]:
        """Read of each queue how many wait, and the oldest, which RabbitMQ does not show."""
        if self._bells is None:
            oldest = [(self._eval, OLDEST, 1, queue, DOORBELL_LIMIT) for queue in Queue]
            return await _ask(self._queues, oldest)
        try:
            return [(await self._bells.waiting(queue), b"") for queue in Queue]
        except BrokerAway as error:
            where = "look at ROUTER_WORKER_BROKER_URL and at the server"
            message = f"RabbitMQ cannot be used ({error}); {where}"
            raise StoreUnavailable(message) from error

    async def _signs(self, workers: Sequence[tuple[str, float]]) -> list[Sign]:
        """Read what these workers say of themselves."""
        said = await _ask(self._records, [("GET", self._keys.worker(name)) for name, _ in workers])
        return [
            Sign(name, at, presence.read(text))
            for (name, at), text in zip(workers, said, strict=True)
        ]

    async def _read_marks(self, task_ids: Sequence[str]) -> list[Mark]:
        keys = self._keys
        told = await _ask(
            self._records,
            [(self._eval, _MARK, 1, keys.record(one), HEAD, SIGNATURE) for one in task_ids],
        )
        return [Mark(*reply) for reply in told if reply]

    async def _streams(self, tasks: Mapping[str, Values]) -> dict[str, Sequence[Any]]:
        """Read how the streams of those go that run, by id."""
        running = sorted(
            (count(fields[_CREATED_AT]), one, count(fields[_ATTEMPT]))
            for one, fields in tasks.items()
            if fields[_STATE] == State.RUNNING.encode()
        )[:STREAMS]
        told = await _ask(
            self._records,
            [
                (self._eval, _STREAM, 1, self._keys.events(one), attempt, PACE_CHUNKS)
                for _, one, attempt in running
            ],
        )
        return {one: reply or () for (_, one, _), reply in zip(running, told, strict=True)}


def chosen(signs: Sequence[Sign], due: Iterable[str]) -> list[str]:
    """Choose the tasks to look at: those that workers name, each in its turn, and those due.

    What can be no task's id is left out, since it would be a part of a key.
    """
    rounds = zip_longest(*(sign.said.tasks for sign in signs if sign.said))
    named = (one for turn in rounds for one in turn if is_task_id(one))
    return list(dict.fromkeys((*islice(named, NAMED), *filter(is_task_id, due))))


def _connect(url: str) -> Redis:
    return open_async(url, **_options())


def _cluster(url: str) -> AsyncCluster:
    return AsyncCluster(Server.parse(url), **_options())


def _options() -> dict[str, Any]:
    """Let clients tell at once where Redis is away: somebody waits for it."""
    return {"retry": Retry(BACKOFF, TRIES, TRIED_AGAIN), **connection_options(TIMEOUT_S)}


async def _ask(ask: Ask, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one round trip; None for what somebody has put another type in place of."""
    if not commands:
        return []
    return [_or_none(reply) for reply in await ask(commands)]


def _or_none(reply: Any) -> Any:
    if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
        return None
    if isinstance(reply, RedisError):
        raise reply
    return reply


def _scored(reply: Any) -> list[tuple[str, float]]:
    """Read members with their scores: pairs by RESP3; by RESP2, one after the other."""
    reply = reply or []
    pairs = reply if reply and isinstance(reply[0], list) else zip(*[iter(reply)] * 2, strict=True)
    return [(_text(member), float(score)) for member, score in pairs]


def _text(member: bytes) -> str:
    return member.decode(errors="replace")
