"""Every name that two programs must agree on, in one place.

Braces in a key are a Redis hash tag: all keys of one task share a slot, so a script on them
runs on a cluster too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Prefix of every key and channel of tasks; a setting (``ROUTER_WORKER_PREFIX``). Queues have none.
DEFAULT_PREFIX = "rw"

#: Field of a log entry that holds the event's JSON, the same bytes as on the channel.
EVENT_FIELD = "event"


class CeleryTask(StrEnum):
    """Names of the Celery tasks, by the kind of work."""

    CHAT = "router.chat"
    VISION = "router.vision"
    NATIVE = "router.native"


class Queue(StrEnum):
    """Celery queues. Two, served in turn, since a strict priority starves the lower one."""

    INTERACTIVE = "router.interactive"
    BATCH = "router.batch"


class State(StrEnum):
    """States of a task's record. The last four are endings: nothing follows them."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether the task is over: its ending is in the log and no worker will touch it."""
        return self not in (State.QUEUED, State.RUNNING, State.RETRYING)


@dataclass(frozen=True, slots=True)
class Keys:
    """Redis keys and channels under one prefix."""

    prefix: str = DEFAULT_PREFIX
    #: Whether live channels are sharded, as on a cluster: `SPUBLISH` and `SSUBSCRIBE`.
    sharded: bool = False

    def record(self, task_id: str) -> str:
        """Hash: envelope, request, state, attempt, result."""
        return f"{self.prefix}:{{{task_id}}}"

    def events(self, task_id: str) -> str:
        """Stream: every event of the task under its own id ``attempt-seq``."""
        return f"{self.prefix}:{{{task_id}}}:events"

    def live(self, task_id: str) -> str:
        """Pub/sub channel: the same events, as they are appended."""
        return f"{self.prefix}:{{{task_id}}}:live"

    @property
    def due(self) -> str:
        """Sorted set: task id → unix time in ms at which somebody must look after it."""
        return f"{self.prefix}:due"

    @property
    def dead(self) -> str:
        """Sorted set: id of a dead letter → unix time in ms of its death."""
        return f"{self.prefix}:dead"

    @property
    def tally(self) -> str:
        """Hash: how many tasks have ended, and how. In the slot of :attr:`due`."""
        return f"{self.prefix}:{{{self.due}}}:tally"

    @property
    def exporter(self) -> str:
        """String: the worker that exports the fleet's metrics now."""
        return f"{self.prefix}:exporter"

    @property
    def cancel(self) -> str:
        """Pub/sub channel: ids of tasks that were cancelled while they ran; every worker hears."""
        return f"{self.prefix}:cancel"

    @property
    def workers(self) -> str:
        """Sorted set: name of a worker → unix time in ms of its last sign of life."""
        return f"{self.prefix}:workers"

    def worker(self, name: str) -> str:
        """Name the string in which a worker says what it does, as JSON."""
        return f"{self.prefix}:worker:{name}"

    def idempotency(self, tenant: str, key: str) -> str:
        """Name the string with the id of the task that first used this key of this tenant."""
        return f"{self.prefix}:idem:{tenant}:{key}"
