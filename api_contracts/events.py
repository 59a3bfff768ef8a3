"""What a subscriber sees: one JSON object an event, the same on the channel and in the log."""

from __future__ import annotations

import json
import re
import sys
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api_contracts.errors import SET_KEYS, NotOpened, TaskError
from api_contracts.results import Result, Timings, Usage

#: Largest event on a channel, in bytes. Redis drops a subscriber whose buffer outgrows its
#: limit (32 MiB by default): 512 events of this size must fit.
EVENT_LIMIT = 64 * 1024
#: 18 digits fit Redis's 64 bits. ``[0-9]``, since ``\\d`` takes the digits of every script.
_EVENT_ID: Final = r"^[0-9]{1,18}-[0-9]{1,18}$"
#: How every event of ours begins, and what follows in one that is encrypted: `"sealed":"…"}`, its
#: last field. Other programs may write events otherwise; then they are none of the encrypted ones.
HEAD: Final = re.compile(
    rb'\{"id":"[0-9]{1,18}-[0-9]{1,18}","task_id":"[^"\\]{1,64}",'
    rb'(?:"type":"[a-z]+","at":-?[0-9]+|"at":-?[0-9]+,"type":"[a-z]+")'
)
SEALED: Final = b',"sealed":"'


class EventId(NamedTuple):
    """``attempt-seq``: place of an event in its task's log, and the cursor to resume after."""

    attempt: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``7-12``; ValueError says what was expected."""
        if not re.fullmatch(_EVENT_ID, text):
            message = f"an event id reads ATTEMPT-SEQ, such as 1-17, not {text[:40]!r}"
            raise ValueError(message)
        attempt, _, seq = text.partition("-")
        return cls(int(attempt), int(seq))

    def __str__(self) -> str:
        """Write it as Redis and subscribers do."""
        return f"{self.attempt}-{self.seq}"


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, Field(pattern=_EVENT_ID)]
    task_id: str
    at: int = Field(description="Unix time in milliseconds, by the writer's clock.")

    @property
    def cursor(self) -> EventId:
        """The id as two numbers, to compare."""
        return EventId.parse(self.id)


class Queued(_Event):
    """The task is on record, first at ``0-1``; or it was replayed, behind its old ending."""

    type: Literal["queued"] = "queued"


class Started(_Event):
    """A worker begins an attempt; always ``ATTEMPT-0``."""

    type: Literal["started"] = "started"
    attempt: Annotated[int, Field(ge=1)]
    worker: str
    resets: bool = Field(description="Chunks of earlier attempts were sent, and are void.")


class Chunk(_Event):
    """A piece of the answer, as the router sent it."""

    type: Literal["chunk"] = "chunk"
    data: Any = Field(description="The JSON object of the router, unchanged.", repr=False)


class Stored(_Event):
    """In place of an event over 64 KiB, on the channel only: its whole stands in the log."""

    type: Literal["stored"] = "stored"


class Retrying(_Event):
    """The attempt failed; another follows."""

    type: Literal["retrying"] = "retrying"
    error: TaskError
    delay_ms: Annotated[int, Field(ge=0)]
    next_at: int = Field(description="When the next attempt is due, unix time in milliseconds.")


class Completed(_Event):
    """Ending: the whole answer is here, or in the record where it is too large for an event."""

    type: Literal["completed"] = "completed"
    finish_reason: str | None
    usage: Usage
    timings: Timings
    result: Result | None = Field(default=None, description="Absent where too large.")
    result_key: str | None = Field(default=None, description="Record whose `result` has it.")


class Failed(_Event):
    """Ending: no further attempt will be made."""

    type: Literal["failed"] = "failed"
    error: TaskError


class Cancelled(_Event):
    """Ending: somebody cancelled the task."""

    type: Literal["cancelled"] = "cancelled"


class Expired(_Event):
    """Ending: the task was not started before its ``expires_at``."""

    type: Literal["expired"] = "expired"


Ending = Completed | Failed | Cancelled | Expired
Event = Queued | Started | Chunk | Retrying | Ending
ENDINGS = frozenset({"completed", "failed", "cancelled", "expired"})

_EVENT: TypeAdapter[Event | Stored] = TypeAdapter(
    Annotated[Event | Stored, Field(discriminator="type")],
    config=ConfigDict(hide_input_in_errors=True),
)


def parse_event(data: bytes | str) -> Event | Stored:
    """Read an event from a channel or a log; ValueError, without its text, where it is none.

    NotOpened where it is encrypted: :mod:`.client.box` opens it first.

    Chunks are the router's own JSON. What pydantic's reader refuses in it (half of a surrogate
    pair, 200 levels, a number of 5,000 digits) goes through Python's, at 10 times the cost.
    """
    try:
        return _EVENT.validate_json(data)
    except ValidationError as error:
        if is_sealed(data):
            message = f"the event is encrypted: {SET_KEYS}"
            raise NotOpened(message) from None
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise
        try:
            value = json.loads(data, parse_int=_number)
        except (ValueError, RecursionError):
            raise error from None
    return _EVENT.validate_python(value)


def is_sealed(data: bytes | str) -> bool:
    """Tell an event that is encrypted from any other text."""
    text = data.encode(errors="replace") if isinstance(data, str) else data
    head = HEAD.match(text)
    return head is not None and text.startswith(SEALED, head.end())


def _number(digits: str) -> int | float:
    """Read a whole number; one that is too long for Python's int becomes a float."""
    return int(digits) if len(digits) <= sys.int_info.default_max_str_digits else float(digits)
