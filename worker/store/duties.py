"""Who must be looked after, and the doorbells that wake somebody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from api_contracts.client.submission import RING_AGAIN_MS, ring, rung_at
from api_contracts.names import Queue
from worker.intake import is_task_id
from worker.look import Look, Word, read_look
from worker.store.link import SHAS, Link
from worker.telemetry import Fleet

#: A task that was taken is due again after this time, in ms, should its taker die.
TAKEN_MS: Final = 10_000
#: How long the timer of a retry may take to ring before somebody else does, in ms.
TIMER_GRACE_MS: Final = 2_000
#: Keys of the messages that are taken and not acknowledged, and of when they were taken: kombu's
#: under names of ours. With its own, the messages of another Celery app in the same database would
#: come again after our time, not theirs.
UNACKED: Final = "router.unacked"
UNACKED_INDEX: Final = f"{UNACKED}_index"
#: Longest message that is read as a doorbell, in bytes: ours have 500, those of Celery's own
#: producers 2,000. Reading 28 MB took 0.3 s here, in which no stream would move.
DOORBELL_LIMIT: Final = 16_384


class Duties:
    """The list of tasks that go on, and the queues. Methods raise as the store's do."""

    def __init__(self, link: Link) -> None:
        """Speak through this link."""
        self._link = link
        self._ask = link.pump.ask
        self._due = link.keys.due

    async def watch(self, due: Mapping[str, int]) -> None:
        """Note when somebody must look after these tasks: unix ms by id."""
        if due:
            pairs = [part for task_id, at in due.items() for part in (at, task_id)]
            await self._ask("ZADD", self._due, *pairs)

    def watch_by(self, task_id: str, at: int) -> asyncio.Future[Any]:
        """Note that somebody must look after a task at this moment at the latest, in unix ms.

        Done when the future is.
        """
        return self._ask("ZADD", self._due, "LT", at, task_id)

    async def over(self, task_id: str, uncounted: str) -> bool:
        """Note that nobody needs to look after a task any more, and count how it ended.

        ``uncounted`` names what is counted, a line each. Tell whether this call counted it; see
        ``over.lua``.
        """
        keys, place = self._link.keys, task_id.encode(errors="surrogateescape")
        struck = self._ask("EVALSHA", SHAS["over"], 2, self._due, keys.tally, place, uncounted)
        if not uncounted:
            await struck
            return False
        cleared = self._ask("HDEL", keys.record(task_id), "uncounted")
        # What another program has put in the record's place cannot be cleared, and is struck off.
        await asyncio.gather(struck, cleared, return_exceptions=True)
        return bool(struck.result())

    async def take(self, limit: int) -> list[str]:
        """Take what is due, that many at most: nobody else gets it for now.

        Anybody may have put it there. Bytes that are no text are kept as Python does it.
        """
        ids = await self._ask("EVALSHA", SHAS["take"], 1, self._due, limit, TAKEN_MS)
        return [task_id.decode(errors="surrogateescape") for task_id in ids]

    async def look(self, taken: Sequence[str]) -> list[Look]:
        """Say what is to be done for each of these tasks; see ``look.lua``.

        What is no task's id can be rung for by nobody, so nobody needs to look after it.
        """
        gone = [Look(one, Word.OVER) for one in taken if not is_task_id(one)]
        task_ids = [one for one in taken if is_task_id(one)]
        if not task_ids:
            return gone
        oldest = [await self._oldest(queue) for queue in (Queue.INTERACTIVE, Queue.BATCH)]
        replies = await asyncio.gather(
            *(
                self._ask(
                    "EVALSHA", SHAS["look"], 1, self._link.keys.record(task_id), *oldest,
                    RING_AGAIN_MS, TIMER_GRACE_MS,
                )
                for task_id in task_ids
            ),
            return_exceptions=True,
        )  # fmt: skip
        return gone + [_looked(*one) for one in zip(task_ids, replies, strict=True)]

    async def _oldest(self, queue: Queue) -> int | str:
        """Tell when the oldest doorbell of a queue was rung, in unix ms.

        Anybody may have put it there: one that was rung in the future tells nothing.
        """
        message = await self._link.broker.lindex(queue, -1)
        if message is None:
            return "empty"
        at = rung_at(message) if len(message) <= DOORBELL_LIMIT else None
        return at if at and at <= time.time() * 1000 else "unknown"

    async def ring(self, task_id: str, kind: str, queue: str, due: int) -> None:
        """Ring a doorbell, and note when to look whether it was heard, in unix ms."""
        await self.watch({task_id: due})
        await self._link.tell_broker(*ring(task_id, kind, queue, due - RING_AGAIN_MS))

    async def ring_back(self, task_id: str, kind: str) -> None:
        """Put a doorbell that we do not obey back where it came from: it is the next to be heard.

        It says when it was first rung, so that it is not taken for a later one.
        """
        key = self._link.keys.record(task_id)
        queue, *moments = await self._ask("HMGET", key, "queue", "rung_at", "created_at")
        rung = next((int(moment) for moment in moments if moment and moment.isdigit()), 0)
        known = Queue.BATCH if queue == Queue.BATCH.encode() else Queue.INTERACTIVE
        _, *message = ring(task_id, kind, known, rung)
        await self._link.tell_broker("RPUSH", *message)

    async def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back where it came from, as it is: it is the next to be taken."""
        await self._link.tell_broker("RPUSH", queue, message)

    async def acknowledge(self, tag: str) -> None:
        """Note that a message need not come again."""
        await self._link.tell_broker("ZREM", UNACKED_INDEX, tag)
        await self._link.tell_broker("HDEL", UNACKED, tag)

    async def elected(self, worker: str, term_ms: int) -> bool:
        """Tell whether this worker is the one that tells of the fleet, for so long.

        With a term of 0 it is not any more.
        """
        office = self._link.keys.exporter
        return bool(await self._ask("EVALSHA", SHAS["elect"], 1, office, worker, term_ms))

    async def fleet(self) -> Fleet:
        """Count what waits, for whoever it is."""
        now_ms = time.time() * 1000
        lengths: dict[str, int] = {queue: await self._link.broker.llen(queue) for queue in Queue}
        ages: dict[str, float] = {}
        for queue in Queue:
            oldest = await self._oldest(queue)
            if isinstance(oldest, int):
                ages[queue] = (now_ms - oldest) / 1000
            elif oldest == "empty":
                ages[queue] = 0.0
        keys = self._link.keys
        dead, open_tasks, tally = await asyncio.gather(
            self._ask("ZCARD", keys.dead),
            self._ask("ZCARD", self._due),
            self._ask("HGETALL", keys.tally),
        )
        return Fleet(lengths, ages, dead, open_tasks, tuple(tally.items()))


def _looked(task_id: str, reply: Any) -> Look:
    """Read a look; what is no record, whatever somebody has put there, needs none."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return Look(task_id, Word.OVER)
    if isinstance(reply, BaseException):
        raise reply
    return read_look(task_id, reply)
