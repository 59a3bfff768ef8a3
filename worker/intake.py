"""Read a task as it comes in: from a record, or whole in a foreign producer's message. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from api_contracts.errors import InvalidTask
from api_contracts.requests import BODY_LIMIT, Task, parse_task

_decode = msgspec.json.Decoder().decode
_TASK_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A message that says: look after this task of that kind, whose record is written."""

    task_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message that carries the whole task; its record is still to be written.

    ``message_id`` is the message's own id, where it can be a task's.
    """

    task: Task
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A message whose task breaks the contract.

    ``task_id`` is where its producer looks for the answer: the task's own id where it is a good
    one, else the message's; None where neither is.
    """

    task_id: str | None
    kind: str
    error: InvalidTask


def is_task_id(value: object) -> bool:
    """Tell whether a value can be a task's id, and so a part of a key."""
    return isinstance(value, str) and _TASK_ID.fullmatch(value) is not None


def read_message(
    kind: str, arguments: tuple[Any, ...], keywords: dict[str, Any], message_id: object
) -> Doorbell | Foreign | Refused:
    """Read the arguments of a Celery message for tasks of this kind.

    One positional argument: a task's id (a doorbell), the task as an object, or its JSON text.
    A task without ``kind`` is of the kind whose name was called; one without ``id`` has the
    message's.
    """
    fallback = message_id if isinstance(message_id, str) and is_task_id(message_id) else None
    if len(arguments) != 1 or keywords:
        error = InvalidTask("task", "the message must have one positional argument, the task")
        return Refused(fallback, kind, error)
    (argument,) = arguments
    if isinstance(argument, str) and is_task_id(argument):
        return Doorbell(argument, kind)
    try:
        task = _object(argument)
    except InvalidTask as error:
        return Refused(fallback, kind, error)
    task_id = task.setdefault("id", message_id)
    try:
        if task.setdefault("kind", kind) != kind:
            raise InvalidTask("kind", f"must be {kind} for this Celery task")  # noqa: TRY301
        return Foreign(parse_task(task), fallback)
    except InvalidTask as error:
        return Refused(task_id if is_task_id(task_id) else fallback, kind, error)


def read_record(task_id: str, kind: str, envelope: bytes, request: bytes) -> Task:
    """Read a task from its record; InvalidTask where whoever wrote it broke the contract."""
    if len(request) > BODY_LIMIT:
        text = f"the body has {len(request)} bytes; at most {BODY_LIMIT} are taken"
        raise InvalidTask("request", text)
    task = _object(_loaded("task", envelope))
    task |= {"id": task_id, "kind": kind, "request": _loaded("request", request)}
    return parse_task(task)


def _object(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        value = _loaded("task", value)
    if not isinstance(value, dict):
        raise InvalidTask("task", "must be a JSON object")
    return dict(value)


def _loaded(field: str, text: str | bytes) -> Any:
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        # It refuses half a character too, for which there are better words than for no JSON.
        return _with_halves(field, text)


def _with_halves(field: str, text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidTask(field, "is not JSON") from None


def _refuse_constant(name: str) -> None:
    """Refuse NaN and its kin, which Python reads and JSON does not have."""
    raise ValueError(name)
