"""Where messages become tasks on record: what comes in, before anybody claims it.

A doorbell's task is on record already. A foreign producer's message carries the task: its record
is written here, and only then is the message acknowledged. What breaks the contract is answered
in one place: where its producer looks, or as a dead letter where it does not say.

A Redis that is full or away is waited for. Meanwhile the message stands there unacknowledged, and
a slot is taken, so that no more are fetched than there are slots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from api_contracts.client.signatures import NO_SIGNATURES, Signatures
from api_contracts.errors import ErrorCode, IdempotencyConflict, InvalidTask, TaskExists
from api_contracts.names import State
from api_contracts.requests import Task
from worker import intake, logs, trust
from worker.admission import NotAMessage
from worker.errors import Failure
from worker.metrics import Metrics
from worker.retry import GiveUp, Reason
from worker.store import Refusal, Store, full, passing
from worker.telemetry import TaskEnd

#: Shortest time to live of what a foreign producer's task leaves, in seconds: longer than kombu
#: takes to deliver a message again that was obeyed and never acknowledged. The record says then
#: that it was; without it, the call would be made once more.
SHORTEST_TTL_S: Final = 300
#: Pause between two tries to write to a Redis that is full or away, in seconds.
PAUSE_S: Final = 0.5

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Reception:
    """Puts foreign tasks on record, refuses broken ones, and parks what nobody can be told."""

    def __init__(
        self, store: Store, metrics: Metrics, signatures: Signatures = NO_SIGNATURES
    ) -> None:
        """Join the parts."""
        self._store = store
        self._metrics = metrics
        self._signatures = signatures

    async def accept(self, message: intake.Foreign | intake.Refused) -> intake.Doorbell | None:
        """Put a message's task on record; return the doorbell that it then is, if it is one.

        NotAMessage where it is none, and nobody can be told.
        """
        trusted = self._trusted(message)
        try:
            return await self._patiently(lambda: self._accept(trusted))
        except self._store.errors as error:
            if passing(error):
                raise
            # What Redis says of a key that another program has put there, and of nothing else.
            reason = f"Redis refuses its record: {type(error).__name__}"
            raise NotAMessage(reason) from error

    async def turn_away(self, queue: str, message: bytes, error: NotAMessage) -> None:
        """Answer what is no message where its producer looks, or put it aside as a dead letter."""
        await self._patiently(lambda: self._turn_away(queue, message, error))

    async def put_back(self, queue: str, message: bytes) -> None:
        """Put a message back where it came from: it is the next to be taken."""
        await self._patiently(lambda: self._store.duties.put_back(queue, message))

    def _trusted(self, message: intake.Foreign | intake.Refused) -> intake.Foreign | intake.Refused:
        """Refuse a task that is not to be obeyed as it came."""
        fault = trust.foreign_fault(self._store.keyring, self._signatures)
        if fault is None or isinstance(message, intake.Refused):
            return message
        reason, error = fault
        self._metrics.refused(reason)
        return intake.Refused(message.task.id, message.task.kind, error)

    async def _patiently(self, work: Callable[[], Awaitable[Value]]) -> Value:
        """Do something with Redis, again and again while it is away or full, until we leave."""
        while True:
            try:
                return await work()
            except self._store.errors as error:
                if self._store.pump.closing or not (full(error) or passing(error)):
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _accept(self, message: intake.Foreign | intake.Refused) -> intake.Doorbell | None:
        if isinstance(message, intake.Foreign):
            return await self._take(_lasting(message.task), message.message_id)
        await self._refuse(message.task_id, message.kind, message.error)
        return None

    async def _take(self, task: Task, message_id: str | None) -> intake.Doorbell | None:
        """Put a foreign producer's task on record.

        Where its id is another task's, that task is left alone: the message's own id is then
        the only place where the producer may look for an answer. Where its idempotency key is
        another task's, the producer is told to follow that one.
        """
        try:
            owner, ours = await self._store.create(task, _now_ms())
        except InvalidTask as error:
            await self._refuse(task.id, task.kind, error)
            return None
        if owner != task.id:
            await self._refuse(task.id, task.kind, _follow(owner, ours=ours))
        elif not ours:
            free_id = message_id if message_id != task.id else None
            await self._refuse(free_id, task.kind, TaskExists(task.id))
        return intake.Doorbell(owner, task.kind) if ours else None

    async def _turn_away(self, queue: str, message: bytes, error: NotAMessage) -> None:
        place, reason = error.place, str(error)
        if place and await self._answered(place.task_id, place.kind, f"message: {reason}"):
            return
        logger.error("a message on %s was parked: %s", queue, reason)
        self._metrics.parked(queue)
        failure = Failure(ErrorCode.INVALID_REQUEST, reason).task_error(0)
        await self._store.park(queue, message, failure, _now_ms())

    async def _refuse(self, task_id: str | None, kind: str, error: InvalidTask) -> None:
        """Answer a task that breaks the contract; NotAMessage where nobody can be told."""
        if task_id is None or not await self._answered(task_id, kind, str(error)):
            raise NotAMessage(str(error))

    async def _answered(self, task_id: str, kind: str, reason: str) -> bool:
        """End a task that was never one, with its reason; False where its id is another's."""
        failure = Failure(ErrorCode.INVALID_REQUEST, reason)
        count = self._metrics.tally.ended(TaskEnd(kind, "", None, State.FAILED, None))
        error = failure.task_error(0)
        refusal = await self._store.refuse(task_id, kind, error, _now_ms(), count)
        if refusal is Refusal.NEW:
            self._metrics.decided("", GiveUp(failure, Reason.NOT_RETRYABLE))
            logs.change(State.FAILED, task_id=task_id, attempt=0, kind=kind, code=failure.code)
        return refusal is not Refusal.TAKEN


def _lasting(task: Task) -> Task:
    """Let what a task leaves stay for :data:`SHORTEST_TTL_S` at least."""
    options = task.options
    if options.result_ttl >= SHORTEST_TTL_S:
        return task
    lasting = options.model_copy(update={"result_ttl": SHORTEST_TTL_S})
    return task.model_copy(update={"options": lasting})


def _follow(owner: str, *, ours: bool) -> InvalidTask:
    """Say whose an idempotency key is; ``ours`` where the content is the same."""
    if not ours:
        return IdempotencyConflict(owner)
    return InvalidTask("options.idempotency_key", f"already used by task {owner}; follow that one")


def _now_ms() -> int:
    return int(time.time() * 1000)
