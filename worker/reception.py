"""Where messages become tasks on record: what comes in, before anybody claims it.

A doorbell's task is on record already. A foreign producer's message carries the task: its record
is written here, and only then is the message acknowledged. What breaks the contract is answered
where its producer looks.
"""

from __future__ import annotations

import logging
import time

from api_contracts.errors import ErrorCode, InvalidTask, TaskExists
from api_contracts.names import State
from api_contracts.requests import Task
from worker import intake, logs
from worker.errors import Failure
from worker.metrics import Metrics
from worker.retry import GiveUp, Reason
from worker.store import Store
from worker.telemetry import TaskEnd

logger = logging.getLogger(__name__)


class Reception:
    """Puts foreign tasks on record, refuses broken ones, and parks what is no message."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Join the parts."""
        self._store = store
        self._metrics = metrics

    async def accept(self, message: intake.Foreign | intake.Refused) -> intake.Doorbell | None:
        """Put a message's task on record; return the doorbell that it then is, if it is one."""
        match message:
            case intake.Foreign(task, message_id):
                return await self._take(task, message_id)
            case intake.Refused(task_id, kind, error):
                await self._refuse(task_id, kind, error)
        return None

    async def park(self, queue: str, message: bytes, reason: str) -> None:
        """Put aside what is no message, as a dead letter."""
        self._metrics.parked(queue)
        error = Failure(ErrorCode.INVALID_REQUEST, reason).task_error(0)
        await self._store.park(queue, message, error, _now_ms())

    async def _take(self, task: Task, message_id: str | None) -> intake.Doorbell | None:
        """Put a foreign producer's task on record.

        Where its id is another task's, that task is left alone: the message's own id is then
        the only place where the producer may look for an answer.
        """
        try:
            ours = await self._store.create(task, _now_ms())
        except InvalidTask as error:
            await self._refuse(task.id, task.kind, error)
            return None
        if ours:
            return intake.Doorbell(task.id, task.kind)
        free_id = message_id if message_id != task.id else None
        await self._refuse(free_id, task.kind, TaskExists(task.id))
        return None

    async def _refuse(self, task_id: str | None, kind: str, error: InvalidTask) -> None:
        if task_id is None:
            logger.warning("invalid message dropped: it has no id that is a free UUID")
            return
        failure = Failure(ErrorCode.INVALID_REQUEST, str(error))
        if not await self._store.refuse(task_id, kind, failure.task_error(0), _now_ms()):
            logger.warning("invalid message dropped: its id %s is another task's", task_id)
            return
        self._metrics.decided("", GiveUp(failure, Reason.NOT_RETRYABLE))
        logs.change(State.FAILED, task_id=task_id, kind=kind, code=failure.code)
        self._metrics.ended(TaskEnd(kind, "", None, State.FAILED, None))


def _now_ms() -> int:
    return int(time.time() * 1000)
