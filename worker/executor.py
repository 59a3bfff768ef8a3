"""A task from its doorbell to what follows from its attempt.

1. Claim it; a doorbell for a task that is nobody's to run now is dropped.
2. Read the task from its record, which anybody may have written, and build the call.
3. Make the attempt, while the lease is renewed beside it. Where Redis says that the attempt is
   another's, the call is stopped and nothing more is written.
4. Decide what the outcome means (``outcome.settle``), and write it in one script.
5. After an ending nobody needs to look after the task; before another attempt a timer rings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from api_contracts.client.submission import RING_AGAIN_MS
from api_contracts.errors import ErrorCode, InvalidTask
from api_contracts.names import State
from api_contracts.options import RetryPolicy
from api_contracts.requests import Task
from worker import intake, logs
from worker.attempt import Attempt, Limits
from worker.claim import Claim, NotClaimed
from worker.errors import AttemptFailed, Failure
from worker.job import Job
from worker.leases import Leases
from worker.metrics import Metrics
from worker.outcome import Answered, Settlement, Unanswered, failed, settle
from worker.protocols.select import protocol_of
from worker.retry import GiveUp, Reason, Retry, full_jitter
from worker.router import Router
from worker.store import TIMER_GRACE_MS, Store, Writer
from worker.telemetry import CallEnd, TaskEnd

#: Bodies over this are parsed in a thread, in bytes: parsing 1 MiB takes about 5 ms, in which
#: no other stream would move.
LOOP_PARSE_LIMIT: Final = 256 * 1024
#: A task that killed this many workers is not given to another.
DEATHS_LIMIT: Final = 3
#: How much later than due a timer rings, in seconds: clocks differ by a little within a
#: process too, and a doorbell that comes early is dropped.
TIMER_LATE_S: Final = 0.01

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say of every task."""

    limits: Limits
    retry: RetryPolicy
    include_usage: bool


class Executor:
    """Runs tasks, any number at once, on one loop."""

    def __init__(
        self,
        store: Store,
        router: Router,
        leases: Leases,
        metrics: Metrics,
        policy: Policy,
    ) -> None:
        """Join the parts."""
        self._store = store
        self._router = router
        self._leases = leases
        self._metrics = metrics
        self._policy = policy
        #: Timers of retries, kept from the garbage collector.
        self._timers: set[asyncio.Task[None]] = set()

    async def run(self, task_id: str, kind: str) -> None:
        """Make the next attempt of a task, if it is ours to make."""
        claim = await self._store.claim(task_id)
        if isinstance(claim, NotClaimed):
            if claim is NotClaimed.EXPIRED:
                logs.change(State.EXPIRED, task_id=task_id, kind=kind)
                self._metrics.ended(TaskEnd(kind, "", None, State.EXPIRED, None))
            logger.debug("doorbell of task %s dropped: %s", task_id, claim)
            return
        self._metrics.claimed(claim.queue, (claim.now - claim.due_at) / 1000)
        job = Job(claim, Writer(self._store, claim), self._store.record(claim.task_id))
        with self._leases.hold(job.writer):
            settlement = await self._attempt(job)
            if settlement is not None and await self._write(job, settlement):
                self._after(job, settlement)

    async def _attempt(self, job: Job) -> Settlement | None:
        """Make the attempt and decide; a fault of our own fails the task, once and for all."""
        try:
            return await self._decided(job)
        except Exception as error:  # noqa: BLE001 - left alone, the call would be made again
            return failed(job.end, _fault(job, error), _no_retry(Failure(ErrorCode.INTERNAL)))

    async def _decided(self, job: Job) -> Settlement | None:
        """Make the attempt and decide; None where it has become another's."""
        try:
            if job.claim.deaths >= DEATHS_LIMIT:
                return _unsent(job, Failure(ErrorCode.POISON))
            job.task = await _read(job.claim)
            attempt = self._prepared(job, job.task)
        except InvalidTask as error:
            return _unsent(job, Failure(ErrorCode.INVALID_REQUEST, str(error)))
        except AttemptFailed as error:
            return _unsent(job, error.failure)
        deadline = job.task.options.deadline
        outcome = await self._watched(job, attempt.run(self._policy.limits, deadline))
        if outcome is None:
            return None
        policy = job.retry_policy(self._policy.retry)
        return settle(job.task, job.end, outcome, policy, full_jitter)

    def _prepared(self, job: Job, task: Task) -> Attempt:
        """Build the call; AttemptFailed where there is none to make."""
        logs.change(State.RUNNING, **job.named)
        if job.claim.interrupted and task.options.on_interrupt == "fail":
            raise AttemptFailed(Failure(ErrorCode.INTERRUPTED))
        deadline = task.options.deadline
        if deadline is not None and deadline <= job.now_ms:
            raise AttemptFailed(Failure(ErrorCode.DEADLINE, "the deadline passed before the call"))
        protocol = protocol_of(task)
        job.protocol = protocol.NAME
        body = job.claim.request
        call = protocol.build(task, body, include_usage=self._policy.include_usage)
        return Attempt(self._router, job.writer, self._metrics, task.vendor, protocol, call)

    async def _watched(
        self, job: Job, attempt: Coroutine[Any, Any, Answered | Unanswered]
    ) -> Answered | Unanswered | None:
        """Run an attempt for as long as it is ours, and count its call."""
        began = time.monotonic()
        work = asyncio.ensure_future(attempt)
        lost = job.writer.lost
        either: set[asyncio.Future[Any]] = {work, lost}
        with self._metrics.calling(stream=job.streaming):
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not work.done():
                    work.cancel()
                    await asyncio.wait({work})
        outcome = _when_lost(job, lost.result()) if lost.done() else _result(job, work)
        if outcome is not None:
            self._metrics.called(_call_end(job, outcome, time.monotonic() - began))
        return outcome

    async def _write(self, job: Job, settlement: Settlement) -> bool:
        """Write what was decided; False where the attempt was no longer ours, or Redis is away.

        When somebody must look again is written before the state, and cleaned after it: a crash
        in between leaves a task that is looked after once too often, not one that is forgotten.
        """
        task_id = job.claim.task_id
        ends = settlement.retry_at is None
        try:
            if settlement.retry_at is not None:
                await self._store.watch({task_id: settlement.retry_at + TIMER_GRACE_MS})
            ours = await self._store.settle(
                task_id,
                job.next_event_id,
                settlement.event,
                settlement.state,
                settlement.fields,
                job.result_ttl_s if ends else None,
            )
            if ours and ends:
                await self._store.forget(task_id)
        except self._store.errors as error:
            logger.error("the end of %s could not be written: %s", job, type(error).__name__)  # noqa: TRY400
            return False
        if not ours:
            logger.warning("%s is no longer ours; its end was not written", job)
        return ours

    def _after(self, job: Job, settlement: Settlement) -> None:
        """Tell of the end of an attempt, and ring again where another follows."""
        _log(job, settlement)
        if settlement.decision is not None:
            self._metrics.decided(job.vendor, settlement.decision)
        if settlement.retry_at is not None:
            delay_s = (settlement.retry_at - job.now_ms) / 1000 + TIMER_LATE_S
            timer = asyncio.ensure_future(self._ring_later(job.claim, delay_s))
            self._timers.add(timer)
            timer.add_done_callback(self._timers.discard)
            return
        seconds = (job.now_ms - job.claim.created_at) / 1000
        self._metrics.ended(TaskEnd(job.kind, job.vendor, job.model, settlement.state, seconds))

    async def _ring_later(self, claim: Claim, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        try:
            due = int(time.time() * 1000) + RING_AGAIN_MS
            await self._store.ring(claim.task_id, claim.kind, claim.queue, due)
        except self._store.errors as error:
            logger.warning(
                "task %s could not be rung (%s); the reaper will",
                claim.task_id,
                type(error).__name__,
            )


async def _read(claim: Claim) -> Task:
    record = (claim.task_id, claim.kind, claim.envelope, claim.request)
    if len(claim.request) > LOOP_PARSE_LIMIT:
        return await asyncio.to_thread(intake.read_record, *record)
    return intake.read_record(*record)


def _unsent(job: Job, failure: Failure) -> Settlement:
    """End a task for which no call can be made."""
    return failed(job.end, Unanswered(failure, sent=False), _no_retry(failure))


def _when_lost(job: Job, error: Exception | None) -> Unanswered | None:
    if error is None:
        logger.warning("%s is another's now; its call was stopped", job)
        return None
    return Unanswered(Failure(ErrorCode.STORE, f"Redis took no more events: {error}"))


def _result(job: Job, work: asyncio.Future[Answered | Unanswered]) -> Answered | Unanswered:
    """Return what the attempt came to; a fault of our own fails the task, not the worker."""
    error = work.exception()
    if error is None:
        return work.result()
    if not isinstance(error, Exception):
        raise error
    return _fault(job, error)


def _fault(job: Job, error: Exception) -> Unanswered:
    # The error's own text may quote a body: where it came from must do.
    logger.error("%s met a fault of the worker: %s", job, logs.origin(error))
    return Unanswered(Failure(ErrorCode.INTERNAL))


def _no_retry(failure: Failure) -> GiveUp:
    return GiveUp(failure, Reason.NOT_RETRYABLE)


def _call_end(job: Job, outcome: Answered | Unanswered, seconds: float) -> CallEnd:
    return CallEnd(
        vendor=job.vendor,
        model=job.model,
        protocol=job.protocol,
        status=outcome.status,
        code=None if isinstance(outcome, Answered) else outcome.failure.code,
        seconds=seconds,
        usage=outcome.usage,
    )


def _log(job: Job, settlement: Settlement) -> None:
    fields = job.named
    fields["seconds"] = round(job.seconds, 3)
    if settlement.decision is not None:
        failure = settlement.decision.failure
        fields["code"] = failure.code
        fields["status"] = failure.status
        fields["request_id"] = failure.request_id
    if isinstance(settlement.decision, Retry):
        fields["delay_ms"] = settlement.decision.delay_ms
    elif settlement.decision is not None:
        fields["reason"] = settlement.decision.reason
    logs.change(settlement.state, **fields)
