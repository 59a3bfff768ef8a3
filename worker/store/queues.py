"""The queues, on Redis or on RabbitMQ: where doorbells are rung, and what waits there."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Any, Final, Literal, Protocol

from redis.asyncio import Redis

from api_contracts.client.brokers import BrokerAway, open_async_bells
from api_contracts.client.submission import Bell, ring, rung_at
from api_contracts.names import Queue
from worker.pump import Pump
from worker.store.lanes import Lanes

#: Keys of the messages that are taken and not acknowledged, and of when they were taken: kombu's
#: under names of ours. With its own, the messages of another Celery app in the same database would
#: come again after our time, not theirs.
UNACKED: Final = "router.unacked"
UNACKED_INDEX: Final = f"{UNACKED}_index"
#: Longest message that is read as a doorbell, in bytes: ours have 500, those of Celery's own
#: producers 2,000. Reading 28 MB took 0.3 s here, in which no stream would move.
DOORBELL_LIMIT: Final = 16_384
#: A script that tells how many messages wait, and the oldest of them up to a length.
OLDEST: Final = files("worker").joinpath("lua/oldest.lua").read_text()

#: When the oldest doorbell of a queue was rung, in unix ms.
Oldest = int | Literal["empty", "unknown"]


class Queues(Protocol):
    """What workers ask of the queues, besides the messages themselves."""

    async def ring(self, bell: Bell) -> bool:
        """Ring a doorbell; tell whether it was taken, where the server's absence is no error."""

    async def ring_back(self, bell: Bell) -> None:
        """Put a doorbell that was taken and is not obeyed back where it came from."""

    async def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back where it came from, as it is: it is the next to be taken."""

    async def acknowledge(self, tag: str) -> None:
        """Note that a message need not come again."""

    async def count(self, queue: str) -> tuple[int | None, float | None]:
        """Tell how many messages wait in a queue, and for how long the oldest has, in seconds.

        None is what cannot be told.
        """

    async def oldest(self, queue: str) -> Oldest:
        """Tell when the oldest doorbell of a queue was rung.

        Anybody may have put it there: one that was rung in the future tells nothing.
        """

    def came(self, queue: str, at: int) -> None:
        """Note that a doorbell has come from a queue that was rung then, in unix ms."""

    async def can_ring(self) -> None:
        """Raise unless a doorbell can be rung now."""

    async def ping(self) -> None:
        """Raise unless their server answers."""

    async def close(self) -> None:
        """Close what was opened for them alone."""


class RedisQueues:
    """Queues on a Redis: Celery's lists. Methods raise as the store's do."""

    def __init__(self, pump: Pump | Lanes, redis: Redis, *, own: bool) -> None:
        """Speak through the pump of the records, or to this Redis where it is one of their own."""
        self._pump = pump
        self._redis = redis
        self._own = own

    async def ring(self, bell: Bell) -> bool:
        """Ring a doorbell."""
        await self._tell(*ring(*bell))
        return True

    async def ring_back(self, bell: Bell) -> None:
        """Put a doorbell back; it is the next to be heard."""
        _, *message = ring(*bell)
        await self._tell("RPUSH", *message)

    async def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back, as it is."""
        await self._tell("RPUSH", queue, message)

    async def acknowledge(self, tag: str) -> None:
        """Forget a message that was noted when it was taken."""
        await self._tell("ZREM", UNACKED_INDEX, tag)
        await self._tell("HDEL", UNACKED, tag)

    async def count(self, queue: str) -> tuple[int | None, float | None]:
        """Look at the list."""
        waiting, oldest = await self._look(queue)
        match oldest:
            case "empty":
                return waiting, 0.0
            case "unknown":
                return waiting, None
            case at:
                return waiting, time.time() - at / 1000

    async def oldest(self, queue: str) -> Oldest:
        """Look at the last of the list."""
        _, oldest = await self._look(queue)
        return oldest

    def came(self, queue: str, at: int) -> None:
        """Do nothing: the list itself tells."""

    async def can_ring(self) -> None:
        """Ask the server, where it is not that of the records."""
        await self.ping()

    async def ping(self) -> None:
        """Ask it, where it is not that of the records."""
        if self._own:
            await self._redis.ping()

    async def close(self) -> None:
        """Close the connections, where they are not those of the records."""
        if self._own:
            await self._redis.aclose()

    async def _look(self, queue: str) -> tuple[int, Oldest]:
        """Tell how many messages wait, and since when the oldest does.

        A message of 20 MiB stays where it is: every worker looks each few seconds.
        """
        asked: Any = self._redis.eval(OLDEST, 1, queue, DOORBELL_LIMIT)
        waiting, message = await asked
        return waiting, _past(rung_at(message)) if waiting else "empty"

    async def _tell(self, *command: Any) -> None:
        """Send a command; through the pump, in its order, where it is the same Redis."""
        if self._own:
            await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        else:
            await self._pump.ask(*command)


class RabbitQueues:
    """Queues on RabbitMQ. What cannot be rung while it is away the reaper rings when it is back.

    What a worker has taken and not acknowledged goes back to its place when the connection that
    it came on is closed (:mod:`worker.rabbitmq`); nobody need put it there.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """Prepare; call from the loop that will use it."""
        self._bells = open_async_bells(url, timeout_s)
        #: When the doorbell was rung that came last, by queue.
        self._came: dict[str, int] = {}

    async def ring(self, bell: Bell) -> bool:
        """Ring a doorbell, if RabbitMQ is there."""
        return await self._bells.ring([bell])

    async def ring_back(self, bell: Bell) -> None:
        """Leave it: it is not acknowledged."""

    async def put_back(self, queue: str, message: bytes) -> None:
        """Leave it, likewise."""

    async def acknowledge(self, tag: str) -> None:
        """Leave that to the channel that it came on."""

    async def count(self, queue: str) -> tuple[int | None, float | None]:
        """Ask RabbitMQ, which does not show who waits.

        What workers have taken and not acknowledged does not count.
        """
        try:
            return await self._bells.waiting(queue), None
        except BrokerAway:
            return None, None

    async def oldest(self, queue: str) -> Oldest:
        """Tell when the doorbell was rung that came here last: those that wait are behind it.

        BrokerAway where nobody can tell: then nobody can ring either.
        """
        waiting = await self._bells.waiting(queue)
        return "empty" if waiting == 0 else _past(self._came.get(queue))

    def came(self, queue: str, at: int) -> None:
        """Note how far the queue has come."""
        self._came[queue] = at

    async def can_ring(self) -> None:
        """Ask RabbitMQ; BrokerAway where it is not there for us."""
        await self._bells.waiting(Queue.INTERACTIVE)

    async def ping(self) -> None:
        """Do nothing: Celery tells whether it hears of it."""

    async def close(self) -> None:
        """Close the connection."""
        await self._bells.aclose()


def _past(at: int | None) -> Oldest:
    return at if at and at <= time.time() * 1000 else "unknown"
