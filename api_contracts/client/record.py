"""Read a task's record as Redis returns it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from api_contracts.client.box import Box
from api_contracts.errors import (
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
)
from api_contracts.names import Queue, State
from api_contracts.options import LATEST_MS
from api_contracts.results import Attempt, DeadLetter, Result, Status

#: Fields that tell a task's status.
STATUS_FIELDS: Final = (
    "kind", "state", "attempt", "failures", "replays", "created_at", "claimed_at", "due_at",
    "ended_at", "worker", "error",
)  # fmt: skip
#: Fields that tell its result, or why there is none.
RESULT_FIELDS: Final = ("state", "result", "error")
#: Fields that tell of a dead letter, beside its attempts and its body.
LETTER_FIELDS: Final = (
    "state", "kind", "queue", "error", "attempt", "deaths", "replays", "created_at", "ended_at",
)  # fmt: skip
#: Kind of a dead letter that was no task.
MESSAGE: Final = "message"

#: Names of the fields that tell of the calls made; with as many digits as scripts count with.
_ATTEMPT: Final = re.compile(rb"attempt:([1-9][0-9]{0,15})")
#: A number as scripts read it.
_NUMBER: Final = re.compile(rb"[0-9]{1,16}")


def not_found(task_id: str) -> TaskNotFound:
    """Say that there is no record, and why that may be."""
    return TaskNotFound(f"no task {task_id}: it never existed, or its time to live has passed")


def read_status(task_id: str, values: list[bytes | None], box: Box) -> Status:
    """Read :data:`STATUS_FIELDS`; TaskNotFound where there is no record."""
    fields = dict(zip(STATUS_FIELDS, values, strict=True))
    if fields["state"] is None:
        raise not_found(task_id)
    error = fields.pop("error")
    known: dict[str, object] = {k: v.decode() for k, v in fields.items() if v is not None}
    if error is not None:
        known["error"] = TaskError.model_validate_json(box.open_error(error))
    if known["state"] != State.RETRYING:
        known.pop("due_at", None)
    return Status.model_validate({"id": task_id, **known})


def read_result(task_id: str, values: list[bytes | None], box: Box) -> Result | None:
    """Read :data:`RESULT_FIELDS`: the result, or None while the task goes on.

    TaskFailed, TaskCancelled or TaskExpired where it ended otherwise; NotOpened where no key fits.
    """
    fields: Mapping[str, bytes | None] = dict(zip(RESULT_FIELDS, values, strict=True))
    state, result, error = fields["state"], fields["result"], fields["error"]
    if state is None:
        raise not_found(task_id)
    match State(state.decode()):
        case State.COMPLETED if result is not None:
            return Result.model_validate_json(box.open("result", result))
        case State.FAILED if error is not None:
            raise TaskFailed(TaskError.model_validate_json(box.open_error(error)))
        case State.CANCELLED:
            raise TaskCancelled(task_id)
        case State.EXPIRED:
            raise TaskExpired(task_id)
        case _:
            return None


def count(text: bytes | None) -> int:
    """Read a number that anybody may have written: what is none counts as 0."""
    return int(text) if text and _NUMBER.fullmatch(text) else 0


def read_queue(name: bytes | None) -> Queue:
    """Read a queue that anybody may have written: one that nobody serves is not rung on."""
    return Queue.BATCH if name == Queue.BATCH.encode() else Queue.INTERACTIVE


def attempt_fields(names: Iterable[bytes]) -> list[bytes]:
    """Return those names of fields that tell of a call that was made, in the calls' order."""
    found = {int(name[1]): name[0] for name in map(_ATTEMPT.fullmatch, names) if name}
    return [found[number] for number in sorted(found)]


def read_attempts(texts: Iterable[bytes | None]) -> Iterator[Attempt]:
    """Yield the calls that these fields tell of; what is none is left out."""
    for text in texts:
        with suppress(ValidationError):
            yield Attempt.model_validate_json(text or b"")


def read_letter(
    letter_id: str,
    ended_at: float,
    values: Sequence[bytes | None],
    box: Box,
    *,
    size: int,
    attempts: Iterable[bytes | None],
) -> DeadLetter:
    """Read :data:`LETTER_FIELDS`; ``ended_at`` is its moment in the index, 0 where it has none."""
    fields = dict(zip(LETTER_FIELDS, values, strict=True))
    error = None
    with suppress(ValidationError):
        error = TaskError.model_validate_json(box.open_error(fields["error"] or b""))
    return DeadLetter(
        id=letter_id,
        kind=(fields["kind"] or b"").decode(errors="replace"),
        queue=(fields["queue"] or b"").decode(errors="replace"),
        error=error,
        attempt=count(fields["attempt"]),
        deaths=count(fields["deaths"]),
        replays=count(fields["replays"]),
        created_at=min(count(fields["created_at"]), LATEST_MS),
        ended_at=int(min(max(0, ended_at or count(fields["ended_at"])), LATEST_MS)),
        attempts=tuple(read_attempts(attempts)),
        size=size,
    )
