"""Who must be looked after, and the doorbells that wake somebody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from api_contracts.client.flows import raise_error
from api_contracts.client.submission import RING_AGAIN_MS, Bell
from api_contracts.names import Queue, State
from worker.intake import is_task_id
from worker.look import Look, Word, read_look
from worker.pump import Command
from worker.store.link import SOURCES, Link
from worker.telemetry import Fleet

#: A task that was taken is due again after this time, in ms, should its taker die.
TAKEN_MS: Final = 10_000
#: How long the timer of a retry may take to ring before somebody else does, in ms.
TIMER_GRACE_MS: Final = 2_000
#: States of a task that goes on, as a record has them.
_OPEN: Final = frozenset(state.encode() for state in State if not state.ended)


class Duties:
    """The list of tasks that go on, and the queues. Methods raise as the store's do."""

    def __init__(self, link: Link) -> None:
        """Speak through this link."""
        self._link = link
        self._ask = link.pump.ask
        self._shas = link.shas
        self._due = link.keys.due
        self._queues = link.queues

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
        record = keys.record(task_id)
        # With nothing to count, a note that somebody has written since is left to whoever counts.
        beside = (record,) if uncounted and self._link.one_server else ()
        struck = self._ask(
            "EVALSHA", self._shas["over"], 2 + len(beside), self._due, keys.tally, *beside,
            place, uncounted,
        )  # fmt: skip
        counted = bool(await struck and uncounted)
        if beside or not uncounted:
            return counted
        # What another program has put in the record's place cannot be cleared, and is struck off.
        asked = (("HDEL", record, "uncounted"), ("HGET", record, "state"))
        replies: list[Any] = await asyncio.gather(
            *(self._ask(*command) for command in asked), return_exceptions=True
        )
        if counted and replies[1] in _OPEN:
            # It was replayed before it was struck off.
            await self.watch_by(task_id, int(time.time() * 1000) + RING_AGAIN_MS)
        return counted

    async def take(self, limit: int) -> list[str]:
        """Take what is due, that many at most: nobody else gets it for now.

        Nothing is taken by who could not ring for it now: others would have to wait.
        Anybody may have put it there. Bytes that are no text are kept as Python does it.
        """
        await self._queues.can_ring()
        ids = await self._ask("EVALSHA", self._shas["take"], 1, self._due, limit, TAKEN_MS)
        return [task_id.decode(errors="surrogateescape") for task_id in ids]

    async def look(self, taken: Sequence[str]) -> list[Look]:
        """Say what is to be done for each of these tasks; see ``look.lua``.

        What is no task's id can be rung for by nobody, so nobody needs to look after it.
        """
        gone = [Look(one, Word.OVER) for one in taken if not is_task_id(one)]
        task_ids = [one for one in taken if is_task_id(one)]
        if not task_ids:
            return gone
        oldest = [await self._queues.oldest(queue) for queue in (Queue.INTERACTIVE, Queue.BATCH)]
        replies = await asyncio.gather(
            *(
                self._ask(
                    "EVALSHA", self._shas["look"], 1, self._link.keys.record(task_id), *oldest,
                    RING_AGAIN_MS, TIMER_GRACE_MS,
                )
                for task_id in task_ids
            ),
            return_exceptions=True,
        )  # fmt: skip
        return gone + [_looked(*one) for one in zip(task_ids, replies, strict=True)]

    async def ring(self, task_id: str, kind: str, queue: str, due: int) -> None:
        """Ring a doorbell, and note when to look whether it was heard, in unix ms.

        One that could not be rung is noted as never rung: it is rung at the next look.
        """
        await self.watch({task_id: due})
        if not await self._queues.ring(Bell(task_id, kind, queue, due - RING_AGAIN_MS)):
            await self._ask("HSET", self._link.keys.record(task_id), "rung_at", 0)

    async def ring_back(self, task_id: str, kind: str) -> None:
        """Put a doorbell that we do not obey back where it came from: it is the next to be heard.

        It says when it was first rung, so that it is not taken for a later one.
        """
        key = self._link.keys.record(task_id)
        queue, *moments = await self._ask("HMGET", key, "queue", "rung_at", "created_at")
        rung = next((int(moment) for moment in moments if moment and moment.isdigit()), 0)
        known = Queue.BATCH if queue == Queue.BATCH.encode() else Queue.INTERACTIVE
        await self._queues.ring_back(Bell(task_id, kind, known, rung))

    async def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back where it came from, as it is: it is the next to be taken."""
        await self._queues.put_back(queue, message)

    async def acknowledge(self, tag: str) -> None:
        """Note that a message need not come again."""
        await self._queues.acknowledge(tag)

    async def elected(self, worker: str, term_ms: int) -> bool:
        """Tell whether this worker is the one that tells of the fleet, for so long."""
        return bool(await self._ask(*self._election(worker, term_ms)))

    async def resign(self, worker: str) -> None:
        """Let another worker tell of the fleet. Beside the pump, which may have ended by then."""
        load = ("SCRIPT", "LOAD", SOURCES["elect"])
        raise_error(await self._link.beside.ask([load, self._election(worker, 0)]))

    def _election(self, worker: str, term_ms: int) -> Command:
        office = self._link.keys.exporter
        return ("EVALSHA", self._shas["elect"], 1, office, worker, term_ms)

    async def fleet(self) -> Fleet:
        """Count what waits, for whoever it is."""
        keys = self._link.keys
        dead, open_tasks, tally, *counts = await asyncio.gather(
            self._ask("ZCARD", keys.dead),
            self._ask("ZCARD", self._due),
            self._ask("HGETALL", keys.tally),
            *(self._queues.count(queue) for queue in Queue),
        )
        waits = dict(zip(map(str, Queue), counts, strict=True))
        depths = {queue: depth for queue, (depth, _) in waits.items() if depth is not None}
        ages = {queue: age for queue, (_, age) in waits.items() if age is not None}
        return Fleet(depths, ages, dead, open_tasks, tuple(tally.items()))


def _looked(task_id: str, reply: Any) -> Look:
    """Read a look; what is no record, whatever somebody has put there, needs none."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return Look(task_id, Word.OVER)
    if isinstance(reply, BaseException):
        raise reply
    return read_look(task_id, reply)
