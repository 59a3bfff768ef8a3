"""A task from its doorbell to what follows from its attempt.

1. Claim it; a doorbell for a task that is nobody's to run now is dropped.
2. Read the task from its record, which anybody may have written: open it, see who has signed it,
   and build the call.
3. Make the attempt, while the lease is renewed beside it. It is stopped where Redis says that it
   is another's or cancelled, where Redis takes no events, and where the worker ends.
4. Decide what the outcome means (``outcome.settle``); the settler writes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, Protocol

from api_contracts.client.signatures import NO_SIGNATURES, Signatures
from api_contracts.errors import ErrorCode, InvalidTask
from api_contracts.names import State
from api_contracts.options import RetryPolicy
from api_contracts.requests import Task
from worker import logs, trust
from worker.attempt import Attempt, Limits
from worker.claim import Claim, NotClaimed
from worker.errors import AttemptFailed, Failure
from worker.job import Job, Span
from worker.leases import Leases
from worker.metrics import Metrics
from worker.outcome import Answered, Settlement, Unanswered, failed, hand_back, settle
from worker.protocols.select import protocol_of
from worker.retry import GiveUp, Reason, full_jitter
from worker.router import Router
from worker.settling import Settler
from worker.store import Store
from worker.telemetry import CallEnd, TaskEnd
from worker.trust import Untrusted
from worker.writer import Stop, Stopped, Writer

#: Bodies over this are parsed in a thread, in bytes: parsing 1 MiB takes about 5 ms, in which
#: no other stream would move.
LOOP_PARSE_LIMIT: Final = 256 * 1024
#: A task that killed this many workers is not given to another.
DEATHS_LIMIT: Final = 3
#: How long handing back may take, in seconds: one round trip, unless Redis is away.
HAND_BACK_S: Final = 3.0
#: Claims that are on their way at once. Tasks that come together begin one after the other so,
#: and chunks of others get their turns between them. Of 400 at once, every hundredth chunk of the
#: rest was 40 to 80 ms late without a bound; where the worker was below 70 % of a core 10 to 14 ms
#: with 16, 6 to 8 with 8, 5 to 8 with 4. A bound of 4 costs 40 % more CPU time a short call, as
#: fewer go together everywhere; 8 cost 0 to 25 %. A Redis that is 10 ms away still gives 800/s.
CLAIMS: Final = 8
#: What a call has met that was stopped, whatever its router did.
_STOPPED: Final = frozenset({ErrorCode.INTERRUPTED, ErrorCode.STORE})
#: States that a claim itself ends a task in.
_ENDED_BY_CLAIM: Final = {
    NotClaimed.EXPIRED: State.EXPIRED,
    NotClaimed.SPOILT: State.FAILED,
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say of every task."""

    lease_s: float
    limits: Limits
    retry: RetryPolicy
    include_usage: bool
    #: Whose tasks are obeyed; without any, everybody's.
    signatures: Signatures = NO_SIGNATURES


class Tracer(Protocol):
    """Traces attempts."""

    def begin(self, claim: Claim, task: Task, ago_s: float) -> Span:
        """Note that an attempt has begun, so many seconds ago."""


class Executor:
    """Runs tasks, any number at once, on one loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a worker, joined here alone
        self,
        store: Store,
        router: Router,
        leases: Leases,
        metrics: Metrics,
        policy: Policy,
        tracer: Tracer | None = None,
    ) -> None:
        """Join the parts; without a tracer, nothing is traced."""
        self._store = store
        self._router = router
        self._leases = leases
        self._metrics = metrics
        self._policy = policy
        self._tracer = tracer
        self._settler = Settler(store, metrics, policy.lease_s)
        self._claims = asyncio.Semaphore(CLAIMS)
        self._running: set[asyncio.Task[Any]] = set()
        #: Tasks that are held here, and for which a doorbell is kept until they are not.
        self._rung: set[str] = set()
        self._draining = self._stopping = False
        #: Attempts that have come to their end.
        self.attempts_ended = 0

    async def run(self, task_id: str, kind: str, heard: Callable[[], None] = lambda: None) -> None:
        """Make the next attempt of a task, if it is ours to make.

        ``heard`` is called when the doorbell is not needed any more: once that is known, or when
        the claim has failed, after which the reaper rings for the task.

        A worker that drains makes none: the doorbell goes back. Nor does one that holds the task:
        where Redis was full, the lease has ended, and the answer is here. But the task may have
        ended and been replayed before its worker has heard that it ended: one doorbell is kept
        until the task is held no longer, and claims then.
        """
        with self._counted():
            claim = await self._claimed(task_id, kind, heard)
            while claim is not None:
                await self._run(claim)
                claim = await self._claimed_again(task_id, kind)

    async def drain(self, grace_s: float) -> None:
        """Begin no attempt any more; those that run may end within the grace, in seconds."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        await self.hand_back()

    async def hand_back(self) -> None:
        """Stop every attempt now, and leave its task to another worker.

        Where Redis does not take that in time, the leases run out instead.
        """
        self._draining = self._stopping = True
        self._leases.stop(Stop.HAND_BACK)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=HAND_BACK_S)
            if late:
                logger.warning("%d tasks could not be handed back in time", len(late))
                self._store.pump.close()
        if self._settler.beside:
            await asyncio.wait(self._settler.beside, timeout=HAND_BACK_S)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the current asyncio task among those that run."""
        task = asyncio.current_task()
        assert task is not None  # nosec B101 # noqa: S101 - a coroutine runs in one
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    async def _claimed(self, task_id: str, kind: str, heard: Callable[[], None]) -> Claim | None:
        """Claim a task when it is its turn; None where it is not ours to run."""
        async with self._claims:
            if self._leases.holds(task_id):
                heard()
                if task_id in self._rung:
                    logger.debug("doorbell of task %s dropped: one is kept", task_id)
                    self._metrics.dropped(NotClaimed.HELD)
                self._rung.add(task_id)
                return None
            if self._draining:
                await self._store.duties.ring_back(task_id, kind)
                return None
            try:
                claim = await self._store.claim(
                    task_id,
                    if_expired=self._uncounted(kind, State.EXPIRED),
                    if_spoilt=self._uncounted(kind, State.FAILED),
                )
            finally:
                heard()
        if isinstance(claim, Claim):
            return claim
        if (state := _ENDED_BY_CLAIM.get(claim)) is not None:
            # What expires was never begun; of what is spoilt, nothing is known.
            attempt = 0 if state is State.EXPIRED else None
            logs.change(state, task_id=task_id, attempt=attempt, kind=kind)
            await self._store.duties.over(task_id, self._uncounted(kind, state))
        logger.debug("doorbell of task %s dropped: %s", task_id, claim)
        self._metrics.dropped(claim)
        return None

    async def _claimed_again(self, task_id: str, kind: str) -> Claim | None:
        """Claim a task for the doorbell that was kept while it was held here."""
        if task_id not in self._rung:
            return None
        self._rung.discard(task_id)
        return await self._claimed(task_id, kind, lambda: None)

    def _uncounted(self, kind: str, state: State) -> str:
        """Name what is to be counted for a task that ends by its claim."""
        return self._metrics.tally.ended(TaskEnd(kind, "", None, state, None))

    async def _run(self, claim: Claim) -> None:
        self._metrics.claimed(claim.queue, (claim.now - claim.due_at) / 1000)
        job = Job(claim, Writer(self._store, claim), self._store.record(claim.task_id))
        with self._leases.hold(job.writer):
            if self._stopping:
                job.writer.stop(Stop.HAND_BACK)
            handed_back = await self._ended(job)
        self.attempts_ended += 1
        if handed_back:
            # Not before: a doorbell for a task that is held here waits, or is dropped.
            await self._settler.ring(claim.task_id, claim.kind, claim.queue)

    async def _ended(self, job: Job) -> bool:
        """Make the attempt and settle it; tell whether the task is handed back."""
        settlement = await self._attempt(job)
        if settlement is None:
            await self._settler.give_up(job)
            return False
        return await self._settler.settle(job, settlement, partial(self._after_failure, job))

    def _after_failure(self, job: Job, failure: Failure) -> Settlement:
        """Decide what follows from a failure outside the call."""
        outcome = Unanswered(failure)
        if job.task is None:
            return failed(job.end, outcome, _no_retry(failure))
        policy = job.retry_policy(self._policy.retry)
        return settle(job.task, job.end, outcome, policy, full_jitter)

    async def _attempt(self, job: Job) -> Settlement | None:
        """Make the attempt and decide; a fault of our own fails the task, once and for all."""
        try:
            return await self._decided(job)
        except Exception as error:  # noqa: BLE001 - left alone, the call would be made again
            return failed(job.end, _fault(job, error), _no_retry(Failure(ErrorCode.INTERNAL)))

    async def _decided(self, job: Job) -> Settlement | None:
        """Make the attempt and decide; None where it is not ours any more."""
        try:
            task = await self._begin(job)
            attempt = self._prepared(job, task)
        except InvalidTask as error:
            return _unsent(job, Failure(ErrorCode.INVALID_REQUEST, str(error)))
        except AttemptFailed as error:
            return _unsent(job, error.failure)
        stopped = job.writer.stopped
        if stopped.done():
            outcome: Answered | Unanswered = Unanswered(_interruption(stopped.result()), sent=False)
        else:
            outcome = await self._watched(job, task, attempt)
        stop = stopped.result().stop if stopped.done() else None
        if stop is Stop.GONE:
            return None
        if stop is Stop.HAND_BACK and isinstance(outcome, Unanswered):
            return _left(job, task, outcome)
        policy = job.retry_policy(self._policy.retry)
        return settle(task, job.end, outcome, policy, full_jitter)

    async def _begin(self, job: Job) -> Task:
        """Read the task, and tell that its attempt runs: also where it cannot be read."""
        try:
            job.claim, task = await self._read(job)
            job.task = task
        finally:
            fields = job.named
            if job.claim.interrupted:
                fields["reason"] = ErrorCode.INTERRUPTED
            logs.change(State.RUNNING, **fields)
        if self._tracer is not None:
            job.span = self._tracer.begin(job.claim, task, job.seconds)
        return task

    async def _read(self, job: Job) -> tuple[Claim, Task]:
        """Read the task, as ``trust.read`` does; a large one in a thread.

        Not one that kills whoever runs it.
        """
        claim = job.claim
        if claim.deaths >= DEATHS_LIMIT:
            raise AttemptFailed(Failure(ErrorCode.POISON))
        read = partial(trust.read, claim, job.writer.box, self._policy.signatures, job.now_ms)
        try:
            if len(claim.request) > LOOP_PARSE_LIMIT:
                return await asyncio.to_thread(read)
            return read()
        except Untrusted as error:
            logger.warning("%s is not obeyed: %s", job, error.failure.message)
            self._metrics.refused(error.reason)
            raise

    def _prepared(self, job: Job, task: Task) -> Attempt:
        """Build the call; AttemptFailed where there is none to make."""
        if job.claim.interrupted and task.options.on_interrupt == "fail":
            raise AttemptFailed(Failure(ErrorCode.INTERRUPTED))
        deadline = task.options.deadline
        if deadline is not None and deadline <= job.now_ms:
            raise AttemptFailed(Failure(ErrorCode.DEADLINE, "the deadline passed before the call"))
        protocol = protocol_of(task)
        job.protocol = protocol.NAME
        body = job.claim.request
        call = protocol.build(task, body, include_usage=self._policy.include_usage)
        call = self._router.authorized(call, task.options.credential)
        if job.span is not None:
            call = job.span.calling(call, protocol.NAME)
        return Attempt(self._router, job.writer, self._metrics, task.vendor, protocol, call)

    async def _watched(self, job: Job, task: Task, attempt: Attempt) -> Answered | Unanswered:
        """Run an attempt until it ends or must stop, and count its call."""
        began = time.monotonic()
        work = asyncio.ensure_future(attempt.run(self._policy.limits, task.options.deadline))
        stopped = job.writer.stopped
        either: set[asyncio.Future[Any]] = {work, stopped}
        with self._metrics.calling(stream=job.streaming):
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not work.done():
                    work.cancel()
                    await asyncio.wait({work})
        if work.cancelled():
            outcome: Answered | Unanswered = attempt.unanswered(_interruption(stopped.result()))
        else:
            outcome = _result(job, work)
        self._metrics.called(_call_end(job, outcome, time.monotonic() - began))
        if job.span is not None:
            job.span.called(outcome)
        return outcome


def _unsent(job: Job, failure: Failure) -> Settlement:
    """End a task for which no call can be made."""
    return failed(job.end, Unanswered(failure, sent=False), _no_retry(failure))


def _left(job: Job, task: Task, outcome: Unanswered) -> Settlement:
    """Leave an unfinished attempt to another worker, unless its task asked not to be restarted.

    A call that was never sent was not interrupted.
    """
    if outcome.sent and task.options.on_interrupt == "fail":
        return failed(job.end, outcome, _no_retry(outcome.failure))
    return hand_back(job.end, outcome)


def _interruption(stopped: Stopped) -> Failure:
    """Say what a call that was stopped has met."""
    if stopped.stop is Stop.STORE:
        return Failure(ErrorCode.STORE, stopped.message)
    return Failure(ErrorCode.INTERRUPTED)


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
    if isinstance(outcome, Answered):
        how: Literal["completed", "failed", "stopped"] = "completed"
    else:
        how = "stopped" if outcome.failure.code in _STOPPED else "failed"
    return CallEnd(
        vendor=job.vendor,
        model=job.model,
        protocol=job.protocol,
        status=outcome.status,
        outcome=how,
        seconds=seconds,
        usage=outcome.usage,
    )
