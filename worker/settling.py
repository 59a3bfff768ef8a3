"""The end of an attempt: what was decided is written, told, and sees to what follows.

When somebody must look again is written before the state, and cleaned after it: a crash in
between leaves a task that is looked after once too often, not one that is forgotten. So it is
with the list of dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from api_contracts.client.submission import RING_AGAIN_MS
from api_contracts.errors import ErrorCode
from api_contracts.names import Queue, State
from worker import logs
from worker.errors import Failure
from worker.job import Job
from worker.metrics import Metrics
from worker.outcome import Settlement
from worker.retry import Retry
from worker.store import Store, full
from worker.store.duties import TIMER_GRACE_MS
from worker.store.records import DEAD_TTL_S
from worker.telemetry import TaskEnd

#: How much later than due a timer rings, in seconds: clocks differ by a little within a
#: process too, and a doorbell that comes early is dropped.
TIMER_LATE_S: Final = 0.01
#: Pause between two tries to write to a Redis whose memory is full, in seconds.
FULL_PAUSE_S: Final = 0.2
#: What lines and spans call an attempt that is left to another worker: its task is queued again.
HANDED_BACK: Final = "handed_back"

#: Decides what follows from a failure of the store.
Otherwise = Callable[[Failure], Settlement]

logger = logging.getLogger(__name__)


class Settler:
    """Writes the ends of attempts. One for all tasks of a process."""

    def __init__(self, store: Store, metrics: Metrics, lease_s: float) -> None:
        """Join the parts. For ``lease_s`` an answer is offered to a Redis that is full."""
        self._store = store
        self._metrics = metrics
        self._lease_s = lease_s
        #: What is on its way and holds no slot: doorbells, and what takes ended tasks off the list.
        self.beside: set[asyncio.Task[None]] = set()

    async def settle(self, job: Job, settlement: Settlement, otherwise: Otherwise) -> bool:
        """Write what was decided, as long as the attempt is ours, and see to what follows.

        Where Redis refuses it, what ``otherwise`` makes of that failure is written instead. Tell
        whether the task was handed back: :meth:`ring` for it when it is not held here any more.
        """
        try:
            written = await self._written(job, settlement, otherwise)
        except self._store.errors as error:
            logger.error("the end of %s could not be written: %s", job, type(error).__name__)  # noqa: TRY400
            job.end_span("unwritten")
            return False
        if written is None:
            await self.give_up(job)
            return False
        self._tell(job, written)
        handed_back = written.state is State.QUEUED
        if written.retry_at is not None and not handed_back:
            self._set_timer(job, written.retry_at)
        return handed_back

    async def ring(self, task_id: str, kind: str, queue: Queue) -> None:
        """Ring a doorbell; the reaper does where Redis does not take it."""
        due = int(time.time() * 1000) + RING_AGAIN_MS
        try:
            await self._store.duties.ring(task_id, kind, queue, due)
        except self._store.errors as error:
            reason = type(error).__name__
            logger.warning("%s could not be rung (%s); the reaper will", task_id, reason)

    async def give_up(self, job: Job) -> None:
        """Leave an attempt that is not ours any more: cancelled, or another worker's."""
        task_id, end = job.claim.task_id, _task_end(job, State.CANCELLED)
        try:
            cancelled, uncounted = await self._store.cancelled_meanwhile(task_id)
            if uncounted:
                # With vendor and model, which whoever cancelled it did not know.
                uncounted = await self._store.duties.over(task_id, self._metrics.tally.ended(end))
        except self._store.errors:
            cancelled = uncounted = False
        if not cancelled:
            logger.warning("%s is another's now", job)
            self._metrics.lease_lost()
            job.end_span("lost")
            return
        job.end_span(State.CANCELLED)
        if uncounted:
            logs.change(State.CANCELLED, **job.named)
            self._metrics.ended(end)

    async def _written(
        self, job: Job, settlement: Settlement, otherwise: Otherwise
    ) -> Settlement | None:
        """Write a settlement; return what was written, or None where it is no longer ours.

        To a Redis whose memory is full it is offered for a while, since an answer has cost money.
        Then the attempt has failed, which takes less room, and is offered until Redis takes it.
        """
        try:
            ours = await self._offered(job, settlement, self._lease_s)
        except self._store.errors as error:
            if self._store.pump.closing:
                raise
            logger.warning("Redis refuses the end of %s: %s", job, type(error).__name__)
            settlement = otherwise(Failure(ErrorCode.STORE, f"Redis refused the answer: {error}"))
            ours = await self._offered(job, settlement, math.inf)
        return settlement if ours else None

    async def _offered(self, job: Job, settlement: Settlement, patience_s: float) -> bool:
        """Write a settlement, again and again for so long while the memory of Redis is full."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + patience_s
        while True:
            try:
                return await self._write(job, settlement)
            except self._store.errors as error:
                late = self._store.pump.closing or loop.time() > patient_until
                if late or not full(error):
                    raise
            await asyncio.sleep(FULL_PAUSE_S)

    async def _write(self, job: Job, settlement: Settlement) -> bool:
        """Write a settlement; False where the attempt was no longer ours."""
        claim, duties, box = job.claim, self._store.duties, job.writer.box
        stay_s = None if settlement.retry_at is not None else job.result_ttl_s
        if settlement.retry_at is not None:
            # After a lease at the latest: the task may be over by now, or another's, who may die.
            lease_ends = job.now_ms + int(self._lease_s * 1000)
            await duties.watch_by(
                claim.task_id, min(settlement.retry_at + TIMER_GRACE_MS, lease_ends)
            )
        if settlement.dead:
            stay_s = max(job.result_ttl_s, DEAD_TTL_S)
            await self._store.bury(claim.task_id, job.now_ms)
        fields, uncounted = settlement.fields, ""
        if settlement.state.ended:
            uncounted = self._uncounted(job, settlement)
            fields = {**fields, "uncounted": uncounted}
        ours = await self._store.settle(
            claim.task_id, job.next_event_id, claim.token, box.seal_event(settlement.event),
            settlement.state, box.seal_fields(fields), stay_s,
        )  # fmt: skip
        if ours and settlement.state.ended:
            self._begin(self._over(claim.task_id, uncounted))
        return ours

    async def _over(self, task_id: str, uncounted: str) -> None:
        """Take an ended task off the list; the reaper does where Redis does not take that."""
        try:
            await self._store.duties.over(task_id, uncounted)
        except self._store.errors as error:
            reason = type(error).__name__
            logger.warning("the end of task %s is counted later (%s)", task_id, reason)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.beside.add(task)
        task.add_done_callback(self.beside.discard)

    def _uncounted(self, job: Job, settlement: Settlement) -> str:
        """Name what is to be counted for an ending."""
        decision = settlement.decision
        code = decision.failure.code if settlement.dead and decision is not None else None
        return self._metrics.tally.ended(_task_end(job, settlement.state), code)

    def _tell(self, job: Job, settlement: Settlement) -> None:
        """Log, count and trace what was written."""
        _log(job, settlement)
        code = None
        if settlement.decision is not None:
            code = settlement.decision.failure.code
            self._metrics.decided(job.vendor, settlement.decision)
        if settlement.state is State.QUEUED:
            self._metrics.handed_back()
            job.end_span(HANDED_BACK)
        else:
            job.end_span(settlement.state, code)
        if settlement.state.ended:
            self._metrics.ended(_task_end(job, settlement.state))

    def _set_timer(self, job: Job, at_ms: int) -> None:
        """Ring at this moment, in unix ms; no body waits with the timer, which may take a day."""
        delay_s = (at_ms - job.now_ms) / 1000 + TIMER_LATE_S
        claim = job.claim
        asyncio.get_running_loop().call_later(
            delay_s, self._start_ringing, claim.task_id, claim.kind, claim.queue
        )

    def _start_ringing(self, task_id: str, kind: str, queue: Queue) -> None:
        self._begin(self.ring(task_id, kind, queue))


def _task_end(job: Job, state: State) -> TaskEnd:
    seconds = (job.now_ms - job.claim.created_at) / 1000
    return TaskEnd(job.kind, job.vendor, job.model, state, seconds)


def _log(job: Job, settlement: Settlement) -> None:
    fields = job.named
    fields["seconds"] = round(job.seconds, 3)
    fields["status"] = settlement.status
    fields["request_id"] = settlement.request_id
    if settlement.state is State.QUEUED:
        fields["reason"] = HANDED_BACK
    if settlement.decision is not None:
        fields["code"] = settlement.decision.failure.code
    if isinstance(settlement.decision, Retry):
        fields["delay_ms"] = settlement.decision.delay_ms
    elif settlement.decision is not None:
        fields["reason"] = settlement.decision.reason
    logs.change(settlement.state, **fields)
