"""What can go wrong, in two closed lists.

Errors of a task travel in its events and its record: :class:`ErrorCode`, :class:`TaskError`.
Exceptions of the client library::

    RouterWorkerError
      InvalidTask            (ValueError)    nothing was sent
        TaskExists                           the id is taken
        IdempotencyConflict                  the key is taken by another body
      TaskNotFound           (LookupError)
        CursorExpired
      StoreUnavailable       (ConnectionError)
      ResultTimeout          (TimeoutError)
      StreamReset
      NotOpened                              encrypted, and no key here opens it
      NotDead                                no dead letter that can be replayed or dropped
      TaskEnded                              asked for a result, got another ending
        TaskFailed
        TaskCancelled
        TaskExpired
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: Longest error message kept of a router's answer, in bytes of UTF-8: enough for every real one,
#: and an HTML page from a proxy does not fill the log.
MESSAGE_LIMIT = 2048
#: What to do where something is encrypted and there is no key at all.
SET_KEYS: Final = "set ROUTER_WORKER_ENCRYPTION_KEYS to the keys of its producers and workers"


class ErrorCode(StrEnum):
    """Why an attempt failed. The list is closed: a producer may switch over it."""

    INVALID_REQUEST = "invalid_request"
    REJECTED = "rejected"
    AUTHENTICATION = "authentication"
    PAYMENT_REQUIRED = "payment_required"
    REFUSED = "refused"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UPSTREAM_ERROR = "upstream_error"
    CONNECTION = "connection"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    POISON = "poison"
    NO_KEY = "no_key"
    STORE = "store"
    INTERNAL = "internal"


#: One sentence for each code: the default message, and the table in the README.
MEANINGS: dict[ErrorCode, str] = {
    ErrorCode.INVALID_REQUEST: "The task breaks the contract and was never sent.",
    ErrorCode.REJECTED: "The router or the provider refused the request as it stands.",
    ErrorCode.AUTHENTICATION: "The router did not accept the worker's API key.",
    ErrorCode.PAYMENT_REQUIRED: "The router's account cannot pay for the call.",
    ErrorCode.REFUSED: "The provider declined the content.",
    ErrorCode.CONFLICT: "The provider could not take the request at this moment.",
    ErrorCode.RATE_LIMITED: "The provider's rate limit was reached.",
    ErrorCode.OVERLOADED: "The provider is overloaded.",
    ErrorCode.UPSTREAM_ERROR: "The router or the provider failed.",
    ErrorCode.CONNECTION: "The connection to the router failed.",
    ErrorCode.TIMEOUT: "The router did not answer in time.",
    ErrorCode.TRUNCATED: "The answer ended before its finish frame.",
    ErrorCode.MALFORMED: "The answer is not what the protocol promises.",
    ErrorCode.TOO_LARGE: "The answer is larger than the worker takes.",
    ErrorCode.DEADLINE: "The task's deadline leaves no time for this.",
    ErrorCode.INTERRUPTED: "The worker was interrupted, and the task asked not to be restarted.",
    ErrorCode.POISON: "Every worker that ran the task died.",
    ErrorCode.NO_KEY: "The task is encrypted with a key that the worker does not have.",
    ErrorCode.STORE: "Redis could not take the task's events.",
    ErrorCode.INTERNAL: "The worker failed in a way that it does not know.",
}


class TaskError(BaseModel):
    """Why a task, or one attempt of it, failed; as it stands in events and records."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: ErrorCode
    message: str
    retryable: bool = Field(description="Whether the same task may succeed at another time.")
    status: int | None = Field(default=None, description="HTTP status of the router's answer.")
    provider_code: str | None = Field(
        default=None, description="The error's code or type in the provider's own words."
    )
    request_id: str | None = Field(
        default=None, description="The router's id of the call, for its support."
    )
    attempts: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Calls made for this task so far."
    )


#: What is wrong, in plain words, by pydantic's name of the fault. Its own sentences are kept for
#: faults that are not here; none of them repeats the value.
_REASONS: Final = {
    "missing": "is required",
    "extra_forbidden": "is not a field of a task",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "string_type": "must be a string",
    "string_unicode": "holds half a surrogate pair, which is no character",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
#: A part of a field's path that may be named. Names come from the task too, and could be text.
_NAMEABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class RouterWorkerError(Exception):
    """Base of everything that the client library raises."""


class InvalidTask(RouterWorkerError, ValueError):
    """The task breaks the contract; nothing was sent.

    ``field`` is the path of the field (``request.temperature``), ``reason`` what is wrong.
    Neither quotes a prompt: the value itself is never repeated.
    """

    def __init__(self, field: str, reason: str) -> None:
        """Keep both parts; the message names them in that order."""
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    @classmethod
    def of(cls, error: ValidationError, under: str = "") -> InvalidTask:
        """Translate pydantic's report: its first error, without the input that it would print.

        ``under`` is put before the field's path. A validator that raised InvalidTask has named
        the field from where it stands.
        """
        first = error.errors(include_url=False, include_input=False)[0]
        context = first.get("ctx", {})
        cause = context.get("error")
        path = [nameable(part) for part in first["loc"]]
        if isinstance(cause, InvalidTask):
            return InvalidTask(under + ".".join([*path, cause.field]), cause.reason)
        known = _REASONS.get(first["type"])
        reason = known.format(**context) if known else first["msg"].removeprefix("Value error, ")
        return InvalidTask(under + ".".join(path) if path else under[:-1] or "task", reason)


def nameable(part: object) -> str:
    """Write a part of a field's path: a plain name or an index as it is, else ``?``."""
    text = str(part)
    return text if _NAMEABLE.fullmatch(text) else "?"


class TaskExists(InvalidTask):
    """A task with this id is already on record with another content."""

    def __init__(self, task_id: str) -> None:
        """Name the id that is taken."""
        super().__init__("id", f"a different task {task_id} already exists; make a new id")
        self.task_id = task_id


class IdempotencyConflict(InvalidTask):
    """The idempotency key was used for a task with another content."""

    def __init__(self, task_id: str) -> None:
        """Name the task that owns the key."""
        super().__init__(
            "options.idempotency_key",
            f"already used by task {task_id} with another content; use a new key",
        )
        self.task_id = task_id


class TaskNotFound(RouterWorkerError, LookupError):
    """No record of this id: it never existed, or its time to live has passed."""


class CursorExpired(TaskNotFound):
    """The log no longer holds what follows this event id."""


class StoreUnavailable(RouterWorkerError, ConnectionError):
    """Redis did not answer, or refused; the message says which and what to do."""


class ResultTimeout(RouterWorkerError, TimeoutError):
    """The task had not ended in the time given; it goes on."""


class StreamReset(RouterWorkerError):
    """The text shown so far is void: the task was restarted. Iterate events to follow it."""


class NotOpened(RouterWorkerError):
    """What a task says is encrypted and does not open here, or is plain and must not be.

    ``reason`` tells which: no key of ours fits, it was altered (or is another task's), or it is
    plain. The message says what to set.
    """

    def __init__(
        self, message: str, reason: Literal["no_key", "altered", "plain"] = "no_key"
    ) -> None:
        """Keep the reason beside the words."""
        super().__init__(message)
        self.reason = reason


class NotDead(RouterWorkerError):
    """The task is no dead letter, or none that can be replayed; the message says what it is."""


class TaskEnded(RouterWorkerError):
    """The task ended without a result."""


class TaskFailed(TaskEnded):
    """The task failed; ``error`` says why."""

    def __init__(self, error: TaskError) -> None:
        """Keep the error as the worker wrote it."""
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class TaskCancelled(TaskEnded):
    """The task was cancelled."""


class TaskExpired(TaskEnded):
    """The task was not started before its ``expires_at``."""
