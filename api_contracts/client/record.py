"""Read a task's record as Redis returns it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from api_contracts.errors import (
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
)
from api_contracts.names import State
from api_contracts.results import Result, Status

#: Fields that tell a task's status.
STATUS_FIELDS: Final = (
    "kind", "state", "attempt", "failures", "created_at", "claimed_at", "due_at", "ended_at",
    "worker", "error",
)  # fmt: skip
#: Fields that tell its result, or why there is none.
RESULT_FIELDS: Final = ("state", "result", "error")


def not_found(task_id: str) -> TaskNotFound:
    """Say that there is no record, and why that may be."""
    return TaskNotFound(f"no task {task_id}: it never existed, or its time to live has passed")


def read_status(task_id: str, values: list[bytes | None]) -> Status:
    """Read :data:`STATUS_FIELDS`; TaskNotFound where there is no record."""
    fields = dict(zip(STATUS_FIELDS, values, strict=True))
    if fields["state"] is None:
        raise not_found(task_id)
    error = fields.pop("error")
    known: dict[str, object] = {k: v.decode() for k, v in fields.items() if v is not None}
    if error is not None:
        known["error"] = TaskError.model_validate_json(error)
    if known["state"] != State.RETRYING:
        known.pop("due_at", None)
    return Status.model_validate({"id": task_id, **known})


def read_result(task_id: str, values: list[bytes | None]) -> Result | None:
    """Read :data:`RESULT_FIELDS`: the result, or None while the task goes on.

    TaskFailed, TaskCancelled or TaskExpired where it ended otherwise.
    """
    fields: Mapping[str, bytes | None] = dict(zip(RESULT_FIELDS, values, strict=True))
    state, result, error = fields["state"], fields["result"], fields["error"]
    if state is None:
        raise not_found(task_id)
    match State(state.decode()):
        case State.COMPLETED if result is not None:
            return Result.model_validate_json(result)
        case State.FAILED if error is not None:
            raise TaskFailed(TaskError.model_validate_json(error))
        case State.CANCELLED:
            raise TaskCancelled(task_id)
        case State.EXPIRED:
            raise TaskExpired(task_id)
        case _:
            return None
